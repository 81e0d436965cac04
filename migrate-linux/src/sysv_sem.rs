//! System V semaphores (semctl(2)): who has used them.

use std::io;

/// Who did the last semop(2) on a semaphore of a set, as this process sees the PID; 0: nobody, or nobody that is seen from here.
///
/// # Errors
/// `EINVAL` or `EIDRM` when there is no such set, `EINVAL` beyond its end, `EACCES`.
pub fn last_user(set: i32, semaphore: u32) -> io::Result<i32> {
    let number = i32::try_from(semaphore).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: GETPID reads and writes no memory.
    match unsafe { libc::semctl(set, number, libc::GETPID) } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_used_one_is_told() {
        // SAFETY: reads and writes no memory.
        let set = unsafe { libc::semget(libc::IPC_PRIVATE, 2, 0o600) };
        if set < 0 {
            println!("SKIPPED whoever_has_used_one_is_told: semget: {}", io::Error::last_os_error());
            return;
        }
        let mut up = libc::sembuf { sem_num: 1, sem_op: 1, sem_flg: 0 };
        // SAFETY: one struct sembuf, as said.
        let used = unsafe { libc::semop(set, &raw mut up, 1) };
        let users = [last_user(set, 0), last_user(set, 1), last_user(set, 2)].map(Result::ok);
        // SAFETY: reads and writes no memory.
        unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
        assert_eq!((used, users), (0, [Some(0), Some(std::process::id() as i32), None]));
    }
}
