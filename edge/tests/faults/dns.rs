//! A DNS server on a port of this machine that says what it is told to.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;

/// What the server says about any name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// There is no such name.
    NoSuchName,
    /// Something is wrong with me.
    Failure,
}

/// The server. Its thread ends with the process.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    pub(crate) fn start(says: Says) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let dns = Dns {
            address: socket.local_addr().unwrap(),
            says: Arc::new(Mutex::new(says)),
            asked: Arc::default(),
        };
        let (says, asked) = (Arc::clone(&dns.says), Arc::clone(&dns.asked));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let answer = answer(&buffer[..len], &says.lock());
                asked.fetch_add(1, Ordering::SeqCst);
                let _ = socket.send_to(&answer, from);
            }
        });
        dns
    }

    pub(crate) fn now_says(&self, says: Says) {
        *self.says.lock() = says;
    }

    /// Queries so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(query: &[u8], says: &Says) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    match says {
        Says::Addresses(addresses, ttl) if question.query_type() == RecordType::A => {
            for address in addresses {
                let data = RData::A((*address).into());
                answer.add_answer(Record::from_rdata(question.name().clone(), *ttl, data));
            }
        }
        Says::Addresses(..) => {}
        Says::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Says::Failure => answer.metadata.response_code = ResponseCode::ServFail,
    }
    answer.to_vec().unwrap()
}
