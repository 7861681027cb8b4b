#!/bin/sh
# Makes sure of what the build needs from the system: Rust, a C compiler and libclang.
exec "$(dirname "$0")/setup-system.sh" build
