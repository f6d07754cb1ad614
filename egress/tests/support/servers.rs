//! Strict far ends: they take what the RFCs write, byte for byte, and panic at anything else. The servers that
//! people have are in `stock.rs`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use cell_lab::netns::Namespace;

/// What was asked of a server, in order.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Serves each connection on a thread of its own; the threads go with the test's process.
pub fn serve(
    namespace: &Namespace,
    at: SocketAddr,
    handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = namespace.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let file = std::fs::File::open(namespace.path()).unwrap();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        // Connections that a handler makes belong to the namespace too.
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for stream in listener.incoming().map_while(Result::ok) {
            let handle = Arc::clone(&handle);
            thread::spawn(move || {
                // A relay that is cut is nothing to tell.
                let _ = handle(stream);
            });
        }
    });
    address
}

/// Sends back what it gets, then ends its direction.
pub fn echo(mut stream: TcpStream) -> io::Result<()> {
    io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(Shutdown::Write)
}

/// Both directions, each ended by itself; a broken one breaks the other.
fn join(near: TcpStream, far: TcpStream) -> io::Result<()> {
    let pump = |mut from: TcpStream, mut to: TcpStream| match io::copy(&mut from, &mut to) {
        Ok(_) => to.shutdown(Shutdown::Write),
        Err(error) => {
            from.shutdown(Shutdown::Both)?;
            to.shutdown(Shutdown::Both)?;
            Err(error)
        }
    };
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    let back = thread::spawn(move || pump(far_too, near_too));
    let there = pump(near, far);
    back.join().unwrap()?;
    there
}

fn exactly<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn counted(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = exactly(stream)?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap())
}

/// Who may log in at a SOCKS server.
#[derive(Clone)]
pub enum Login {
    None,
    /// Anybody, who is asked for: as Tor's port.
    Any,
    Only(&'static str, &'static str),
}

/// RFC 1928 and 1929. Each entry of `asked` is `user destination`.
pub fn socks5(login: Login, asked: Asked) -> impl Fn(TcpStream) -> io::Result<()> {
    move |mut stream| {
        let method = if matches!(login, Login::None) { 0 } else { 2 };
        assert_eq!(exactly::<3>(&mut stream)?, [5, 1, method]);
        stream.write_all(&[5, method])?;
        let mut user = String::new();
        if method == 2 {
            assert_eq!(exactly::<1>(&mut stream)?, [1]);
            user = counted(&mut stream)?;
            let password = counted(&mut stream)?;
            let known = match &login {
                Login::None | Login::Any => true,
                Login::Only(u, p) => (*u, *p) == (user.as_str(), password.as_str()),
            };
            stream.write_all(&[1, u8::from(!known)])?;
            if !known {
                return Ok(());
            }
        }
        assert_eq!(exactly::<3>(&mut stream)?, [5, 1, 0]);
        let ip: IpAddr = match exactly::<1>(&mut stream)? {
            [1] => exactly::<4>(&mut stream)?.into(),
            [4] => exactly::<16>(&mut stream)?.into(),
            [other] => panic!("type of address {other}"),
        };
        let destination = SocketAddr::new(ip, u16::from_be_bytes(exactly::<2>(&mut stream)?));
        asked.lock().unwrap().push(format!("{user} {destination}"));
        match TcpStream::connect(destination) {
            Ok(far) => {
                stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
                join(stream, far)
            }
            Err(_) => stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]),
        }
    }
}

/// RFC 1928 and 1929 for whoever comes. Each entry of `told` is a password.
pub fn socks5_listening(told: Asked) -> impl Fn(TcpStream) -> io::Result<()> {
    move |mut stream| {
        exactly::<3>(&mut stream)?;
        stream.write_all(&[5, 2])?;
        exactly::<1>(&mut stream)?;
        let (_, password) = (counted(&mut stream)?, counted(&mut stream)?);
        told.lock().unwrap().push(password);
        stream.write_all(&[1, 0])?;
        // An IPv4 address and a port.
        exactly::<10>(&mut stream)?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        echo(stream)
    }
}

/// RFC 9110, section 9.3.6. `login` is what must stand after `Basic `.
pub fn http(login: Option<&'static str>, asked: Asked) -> impl Fn(TcpStream) -> io::Result<()> {
    move |mut stream| {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(exactly::<1>(&mut stream)?[0].into());
        }
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let start = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        let basic = |login: &str| format!("Proxy-Authorization: Basic {login}\r\n");
        let authorization = login.map(basic).unwrap_or_default();
        if head != format!("{start}{authorization}\r\n") {
            assert!(head.starts_with(&start), "{head}");
            return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
        }
        asked.lock().unwrap().push(target.clone());
        match TcpStream::connect(target.parse::<SocketAddr>().unwrap()) {
            Ok(far) => {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")?;
                join(stream, far)
            }
            Err(_) => stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
        }
    }
}
