//! What moves and how: images, protocol, phases, resources.
#![forbid(unsafe_code)]
