//! A process's memory: what its address space looks like, which pages must travel, and the streams that carry them.

pub mod compress;
pub mod decide;
pub mod fresh;
pub mod huge_pages;
pub mod layout;
pub mod numa;
pub mod objects;
pub mod pace;
pub mod page_set;
pub mod pagemap_scan;
pub mod posix_shm;
pub mod receive;
pub mod scan;
pub mod segments;
pub mod select;
pub mod send;
pub mod soft_dirty;
pub mod stamp;
pub mod tracker;
pub mod unnamed;
pub mod verify;
