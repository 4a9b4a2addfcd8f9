#!/bin/sh
# as: root
# What a job's network is on kernel 6.1, of root and of the account that root has
# for tests. The host's own rules are the business of the scripts beside this one.
exec /payload/target/deps/launch --nocapture --test-threads 1 network:: publish:: \
    egress::only_what_is_granted_is_reached_and_the_events_say_what
