//! Files in memory that keep apart what was written and what was synced, so that a loss of power can be played.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Mutex;

use cell_vaultd::files::Files;

/// What a loss of power leaves. fsync(2) promises no more than the first; the others happen too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Whatever was not synced is gone.
    Unsynced,
    /// Names are there, and contents that were not synced are not (delayed allocation).
    Contents,
    /// Names are there, and contents as far as the middle of what was not synced.
    HalfContents,
    /// Nothing is lost: only the process died.
    Nothing,
}

pub const LOSSES: [Loss; 4] = [Loss::Unsynced, Loss::Contents, Loss::HalfContents, Loss::Nothing];

#[derive(Debug, Clone)]
enum Node {
    File {
        now: Vec<u8>,
        synced: Vec<u8>,
    },
    Folder {
        now: BTreeMap<String, usize>,
        synced: BTreeMap<String, usize>,
    },
}

#[derive(Debug)]
pub struct MemoryFiles(Mutex<Vec<Node>>);

impl Default for MemoryFiles {
    fn default() -> Self {
        MemoryFiles(Mutex::new(vec![folder()]))
    }
}

fn folder() -> Node {
    Node::Folder {
        now: BTreeMap::new(),
        synced: BTreeMap::new(),
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn names(path: &Path) -> Vec<String> {
    path.components()
        .map(|component| match component {
            Component::Normal(name) => name.to_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn find(nodes: &[Node], path: &Path) -> Option<usize> {
    names(path).iter().try_fold(0, |at, name| match &nodes[at] {
        Node::Folder { now, .. } => now.get(name).copied(),
        Node::File { .. } => None,
    })
}

/// The names in the folder that holds `path`, and the last part of it.
fn parent<'n>(nodes: &'n mut [Node], path: &Path) -> io::Result<(&'n mut BTreeMap<String, usize>, String)> {
    let name = names(path).pop().unwrap();
    let at = find(nodes, path.parent().unwrap()).ok_or_else(not_found)?;
    match &mut nodes[at] {
        Node::Folder { now, .. } => Ok((now, name)),
        Node::File { .. } => Err(io::ErrorKind::NotADirectory.into()),
    }
}

impl MemoryFiles {
    /// The files as the next start finds them.
    pub fn after(&self, loss: Loss) -> MemoryFiles {
        let mut nodes = self.0.lock().unwrap().clone();
        for node in &mut nodes {
            match node {
                Node::Folder { now, synced } => {
                    if loss == Loss::Unsynced {
                        *now = synced.clone();
                    }
                    *synced = now.clone();
                }
                Node::File { now, synced } => {
                    match loss {
                        Loss::Unsynced | Loss::Contents => *now = synced.clone(),
                        Loss::HalfContents if now.starts_with(synced) => {
                            now.truncate(synced.len() + (now.len() - synced.len()) / 2);
                        }
                        Loss::HalfContents | Loss::Nothing => {}
                    }
                    *synced = now.clone();
                }
            }
        }
        MemoryFiles(Mutex::new(nodes))
    }

    fn add(&self, path: &Path, node: Node) -> io::Result<()> {
        let mut nodes = self.0.lock().unwrap();
        let id = nodes.len();
        let (entries, name) = parent(&mut nodes, path)?;
        if entries.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        entries.insert(name, id);
        nodes.push(node);
        Ok(())
    }

    fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut nodes = self.0.lock().unwrap();
        let at = find(&nodes, path).ok_or_else(not_found)?;
        match &mut nodes[at] {
            Node::File { now, .. } => {
                change(now);
                Ok(())
            }
            Node::Folder { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let nodes = self.0.lock().unwrap();
        match find(&nodes, path).map(|at| &nodes[at]) {
            None => Ok(None),
            Some(Node::File { now, .. }) if now.len() as u64 > limit => {
                Err(io::ErrorKind::FileTooLarge.into())
            }
            Some(Node::File { now, .. }) => Ok(Some(now.clone())),
            Some(Node::Folder { .. }) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn read_at(&self, path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let nodes = self.0.lock().unwrap();
        match find(&nodes, path).map(|at| &nodes[at]) {
            None => Ok(None),
            Some(Node::File { now, .. }) => {
                let from = now.len().min(usize::try_from(offset).unwrap());
                let length = buffer.len().min(now.len() - from);
                buffer[..length].copy_from_slice(&now[from..from + length]);
                Ok(Some(length))
            }
            Some(Node::Folder { .. }) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<String>>> {
        let nodes = self.0.lock().unwrap();
        match find(&nodes, path).map(|at| &nodes[at]) {
            None => Ok(None),
            Some(Node::Folder { now, .. }) => Ok(Some(now.keys().cloned().collect())),
            Some(Node::File { .. }) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn create(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.add(
            path,
            Node::File {
                now: content.to_vec(),
                synced: Vec::new(),
            },
        )
    }

    fn append(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.change(path, |now| now.extend_from_slice(content))
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        self.change(path, |now| now.resize(usize::try_from(length).unwrap(), 0))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.0.lock().unwrap();
        let at = find(&nodes, path).ok_or_else(not_found)?;
        match &mut nodes[at] {
            Node::File { now, synced } => synced.clone_from(now),
            Node::Folder { now, synced } => synced.clone_from(now),
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut nodes = self.0.lock().unwrap();
        let (entries, name) = parent(&mut nodes, from)?;
        let id = entries.remove(&name).ok_or_else(not_found)?;
        let (entries, name) = parent(&mut nodes, to)?;
        entries.insert(name, id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut nodes = self.0.lock().unwrap();
        let (entries, name) = parent(&mut nodes, path)?;
        entries.remove(&name);
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.add(path, folder())
    }
}
