#!/bin/sh
# as: user root
# The tools that the guest has, on kernel 6.1; the user's in a scope of its own.
exec /payload/target/deps/compat --nocapture --test-threads 2
