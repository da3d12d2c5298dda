//! Services that send raw bytes, such as malformed responses that no HTTP library would send.

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

/// Opens a listener on a free port of the loopback interface.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Starts a service that calls `handle` for each connection in a separate task. Returns the address of the service.
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

/// Reads the head of an HTTP message, including the empty line at its end.
///
/// # Panics
/// This function panics if the stream ends before the head is complete.
pub async fn head(stream: &mut (impl AsyncBufRead + Unpin)) -> String {
    read_head(stream).await.unwrap()
}

pub(crate) async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("after {head:?}")));
        }
    }
    Ok(head)
}

/// Reads and discards `length` bytes.
///
/// # Panics
/// This function panics if the stream ends before `length` bytes.
pub async fn discard(stream: &mut (impl AsyncRead + Unpin), length: usize) {
    stream.read_exact(&mut vec![0; length]).await.unwrap();
}

/// One step of a [`Scripted`] service. After the last step, the service closes the connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads the head of a request.
    ReadHead,
    /// Reads this number of bytes.
    Read(usize),
    /// Reads until the client closes the connection. If a TLS connection ends without `close_notify`, this step fails.
    ReadToEnd,
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Pauses for this time.
    Wait(Duration),
    /// Waits until bytes arrive, but does not read them. If the service closes the connection after this step, the
    /// kernel resets the connection, because the bytes are unread.
    LeaveUnread,
    /// Closes the sending side of the service's connection. The client can still send.
    ShutDown,
    /// Keeps the connection open forever. The steps after this one never run.
    Stall,
}

impl Step {
    /// Sends this text.
    pub fn send(text: impl Into<String>) -> Self {
        Self::Send(text.into().into_bytes())
    }
}

/// A service that runs the same steps on each connection.
#[derive(Debug)]
pub struct Scripted {
    /// The address at which the service listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    results: mpsc::UnboundedReceiver<io::Result<usize>>,
}

impl Scripted {
    /// Starts a service over TCP.
    pub async fn http(steps: impl Into<Vec<Step>>) -> Self {
        Self::start(steps.into(), None).await
    }

    /// Starts a service over TLS.
    pub async fn https(acceptor: TlsAcceptor, steps: impl Into<Vec<Step>>) -> Self {
        Self::start(steps.into(), Some(acceptor)).await
    }

    async fn start(steps: Vec<Step>, acceptor: Option<TlsAcceptor>) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, results) = mpsc::unbounded_channel();
        let steps: Arc<[Step]> = steps.into();
        let counted = connections.clone();
        let address = service(move |stream| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (steps, acceptor, sender) = (steps.clone(), acceptor.clone(), sender.clone());
            async move {
                let result = connection(stream, acceptor, &steps).await;
                // `send` fails only if the test has dropped the `Scripted`. Then it does not need the result.
                let _ = sender.send(result);
            }
        })
        .await;
        Self { address, connections, results }
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until a connection has run all steps, or has failed. Returns the number of bytes that the last step has
    /// read. If the last step does not read, this number is 0.
    ///
    /// # Errors
    /// The error of the TLS handshake, or of the step that failed.
    pub async fn ended(&mut self) -> io::Result<usize> {
        self.results.recv().await.unwrap()
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    steps: &[Step],
) -> io::Result<usize> {
    // With this option, the kernel sends the bytes of each step immediately. Otherwise, a reset in a later step could
    // discard bytes that the kernel has not sent yet.
    stream.set_nodelay(true)?;
    match acceptor {
        None => run_steps(&mut BufReader::new(stream), |stream| stream, steps).await,
        Some(acceptor) => {
            let mut stream = BufReader::new(acceptor.accept(stream).await?);
            run_steps(&mut stream, |stream| stream.get_ref().0, steps).await
        }
    }
}

pub(crate) async fn run_steps<S>(
    mut stream: &mut BufReader<S>,
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
