//! Services that write bytes, not HTTP: for what an HTTP library would never send.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
        BufReader,
    },
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// A listener on a free port of the loopback interface, and its address.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A service that handles each connection with `handle`, in a task of its own.
pub async fn service<F>(mut handle: impl FnMut(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// Reads the head of a message, with the empty line that ends it.
///
/// # Panics
/// If the stream ends before.
pub async fn head(stream: &mut (impl AsyncBufRead + Unpin)) -> String {
    read_head(stream).await.unwrap()
}

async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("after {head:?}")));
        }
    }
    Ok(head)
}

/// Reads and discards so many bytes.
///
/// # Panics
/// If the stream ends before.
pub async fn discard(stream: &mut (impl AsyncRead + Unpin), length: usize) {
    stream.read_exact(&mut vec![0; length]).await.unwrap();
}

/// One step of a [`Scripted`] service. After the last step of a connection, the service closes it.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads the head of a request.
    ReadHead,
    /// Reads so many bytes.
    Read(usize),
    /// Reads until the client closes. Without `close_notify`, the end of a TLS connection is an error.
    ReadToEnd,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Waits until bytes arrive that the service does not read. The kernel then resets the connection when
    /// it is closed.
    LeaveUnread,
    /// Closes the service's side.
    ShutDown,
    /// Keeps the connection open for ever.
    Stall,
}

impl Step {
    /// Sends this text.
    pub fn send(text: impl Into<String>) -> Self {
        Self::Send(text.into().into_bytes())
    }
}

/// A service that does the same steps on each connection.
#[derive(Debug)]
pub struct Scripted {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    ends: mpsc::UnboundedReceiver<io::Result<usize>>,
}

impl Scripted {
    /// A service over TCP.
    pub async fn http(steps: impl Into<Vec<Step>>) -> Self {
        Self::start(steps.into(), None).await
    }

    /// A service over TLS.
    pub async fn https(acceptor: TlsAcceptor, steps: impl Into<Vec<Step>>) -> Self {
        Self::start(steps.into(), Some(acceptor)).await
    }

    async fn start(steps: Vec<Step>, acceptor: Option<TlsAcceptor>) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, ends) = mpsc::unbounded_channel();
        let steps: Arc<[Step]> = steps.into();
        let counted = connections.clone();
        let address = service(move |stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (steps, acceptor, sender) = (steps.clone(), acceptor.clone(), sender.clone());
            async move {
                let end = connection(stream, acceptor, &steps).await;
                // Nobody may be waiting for it.
                let _ = sender.send(end);
            }
        })
        .await;
        Self { address, connections, ends }
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until the steps of a connection have ended. Returns how many bytes its last step has read, or
    /// why they ended early.
    pub async fn ended(&mut self) -> io::Result<usize> {
        self.ends.recv().await.unwrap()
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    steps: &[Step],
) -> io::Result<usize> {
    // Bytes that are not sent when it closes are lost.
    stream.set_nodelay(true)?;
    match acceptor {
        None => play(BufReader::new(stream), |stream| stream, steps).await,
        Some(acceptor) => {
            let stream = BufReader::new(acceptor.accept(stream).await?);
            play(stream, |stream| stream.get_ref().0, steps).await
        }
    }
}

async fn play<S>(
    mut stream: BufReader<S>,
    tcp: impl Fn(&S) -> &TcpStream,
    steps: &[Step],
) -> io::Result<usize>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = 0;
    for step in steps {
        read = 0;
        match step {
            Step::ReadHead => read = read_head(&mut stream).await?.len(),
            Step::Read(length) => read = stream.read_exact(&mut vec![0; *length]).await?,
            Step::ReadToEnd => read = stream.read_to_end(&mut Vec::new()).await?,
            Step::Send(bytes) => {
                stream.get_mut().write_all(bytes).await?;
                stream.get_mut().flush().await?;
            }
            Step::Wait(time) => sleep(*time).await,
            Step::LeaveUnread => {
                tcp(stream.get_ref()).peek(&mut [0]).await?;
            }
            Step::ShutDown => stream.get_mut().shutdown().await?,
            Step::Stall => std::future::pending().await,
        }
    }
    Ok(read)
}
