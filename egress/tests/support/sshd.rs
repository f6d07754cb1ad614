//! An SSH server that forwards, in the far namespace. It is made of the library that the client is made of, so that it
//! counts sessions and channels; OpenSSH's is in `stock.rs`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use cell_lab::netns::Namespace;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey, run_stream};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::TcpStream;

use super::servers::Asked;

/// A key pair of a number.
pub fn key(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// As `ssh-keygen` writes it to a file.
pub fn private_text(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

/// As `ssh-keyscan` prints it.
pub fn public_line(key: &PrivateKey) -> String {
    key.public_key().to_openssh().unwrap()
}

#[derive(Clone)]
struct Sshd {
    user: PublicKey,
    asked: Asked,
}

impl Handler for Sshd {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let known = user == "hans" && key.public_key.key_data() == self.user.key_data();
        Ok(if known { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        assert_eq!(
            originator, "127.0.0.1",
            "the peer's address is not the server's business"
        );
        let to = SocketAddr::new(host.parse().unwrap(), port.try_into().unwrap());
        self.asked.lock().unwrap().push(to.to_string());
        match TcpStream::connect(to).await {
            Ok(mut far) => {
                reply.accept().await;
                tokio::spawn(async move {
                    let mut near = channel.into_stream();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }
}

/// Serves for the user "hans" with a key; counts the sessions that were begun.
pub fn serve(
    namespace: &Namespace,
    at: SocketAddr,
    host: PrivateKey,
    user: &PrivateKey,
    asked: Asked,
) -> Arc<AtomicU32> {
    let listener = namespace.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    let file = std::fs::File::open(namespace.path()).unwrap();
    let config = Arc::new(Config {
        keys: vec![host],
        ..Config::default()
    });
    let handler = Sshd {
        user: user.public_key().clone(),
        asked,
    };
    let sessions = Arc::new(AtomicU32::new(0));
    let begun = Arc::clone(&sessions);
    thread::spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                begun.fetch_add(1, Ordering::Relaxed);
                let (config, handler) = (Arc::clone(&config), handler.clone());
                tokio::spawn(async move {
                    if let Ok(session) = run_stream(config, stream, handler).await {
                        let _ = session.await;
                    }
                });
            }
        });
    });
    sessions
}
