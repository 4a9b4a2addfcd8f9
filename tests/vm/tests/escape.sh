#!/bin/sh
# as: user root
# Every probe in each preset, by run and exec, on kernel 6.1 with Landlock ABI 2.
exec /payload/target/deps/escape --nocapture --test-threads 1 modes::
