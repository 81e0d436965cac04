//! Subject programs and the harness that moves them.
