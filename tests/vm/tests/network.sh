#!/bin/sh
# as: user root
# A job with a network on kernel 6.1, and nft rules of the host; by root for both.
exec /payload/target/deps/launch --nocapture --test-threads 1 network:: egress:: publish:: firewall::
