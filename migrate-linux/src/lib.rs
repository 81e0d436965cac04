//! The kernel's interface: everything that needs `unsafe` is here and nowhere else.
