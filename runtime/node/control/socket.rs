//! The socket's file: private from its first moment, and gone with its node.

use rustix::fs::{FileType, Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// The socket's name in the data folder.
pub const SOCKET_NAME: &str = "control.sock";
/// Bytes of a Unix socket's path, at most (`sun_path` without its end; unix(7)).
const MAX_PATH_BYTES: usize = 107;
/// Connections that the system holds for us until we accept them.
const BACKLOG: i32 = 256;

/// Why the control socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path does not fit a socket's address.
    #[error(
        "{} has {} bytes and a socket's path may have {MAX_PATH_BYTES}: choose a shorter --data",
        .0.display(), .0.as_os_str().len()
    )]
    PathTooLong(PathBuf),
    /// Something else has its name.
    #[error("{} is in the way and no socket: move it elsewhere", .0.display())]
    InTheWay(PathBuf),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The socket's file, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", self.0.display());
        }
    }
}

/// Where the node of a data folder listens.
pub fn socket_path(data: &Path) -> Result<PathBuf, BindError> {
    let path = data.join(SOCKET_NAME);
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(BindError::PathTooLong(path));
    }
    Ok(path)
}

/// Listens on `data`'s socket with mode 0600.
pub(super) fn bind(data: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let path = socket_path(data)?;
    remove_stale(&path)?;
    match listen(&path) {
        Ok(listener) => Ok((listener, SocketFile(path))),
        Err(source) => Err(BindError::Io { path, source }),
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io = |source| BindError::Io { path: path.to_owned(), source };
    match rustix::fs::lstat(path) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(io(error.into())),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_socket() => {
            std::fs::remove_file(path).map_err(io)
        }
        Ok(_) => Err(BindError::InTheWay(path.to_owned())),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode that the socket has when it is bound: at no moment can others
    // open it.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(StdListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    #[tokio::test]
    async fn the_socket_is_private_and_goes_with_its_node() {
        let data = tempfile::tempdir().unwrap();
        let (_listener, file) = bind(data.path()).unwrap();
        let path = data.path().join(SOCKET_NAME);
        let meta = std::fs::metadata(&path).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(SOCKET_NAME);
        drop(StdListener::bind(&path).unwrap());
        assert!(StdListener::bind(&path).is_err());
        let (_listener, _file) = bind(data.path()).unwrap();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(SOCKET_NAME);
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(data.path()), Err(BindError::InTheWay(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_path_that_fits_no_address_is_refused_by_name() {
        let data = tempfile::tempdir().unwrap();
        let deep = data.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let error = bind(&deep).unwrap_err().to_string();
        assert!(error.contains("choose a shorter --data"), "{error}");
    }
}
