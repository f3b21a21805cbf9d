//! Data of every kind, made reproducibly.

use crate::server::{Server, words};
use crate::world::noise;

/// A little random generator: the same data for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Bytes that compress, do not, or are a number.
    pub fn bytes(&mut self, most: u64) -> Vec<u8> {
        let n = self.below(most) as usize;
        match self.below(4) {
            0 => noise(n, self.next()),
            1 => (self.next() as i64 >> self.below(60)).to_string().into_bytes(),
            2 => b"abcabd ".iter().copied().cycle().take(n).collect(),
            _ => (0..n.min(40)).map(|_| b'a' + (self.below(26) as u8)).collect(),
        }
    }
}

/// All data types in all their encodings, sixteen databases, keys that expire, binary keys; functions where the
/// server has them.
pub fn everything(server: &Server) {
    let mut talk = server.socket().unwrap();
    let mut commands: Vec<Vec<Vec<u8>>> = Vec::new();
    for line in [
        "SET text hello",
        "SET number 123456789",
        "SET negative -5",
        "SETBIT bitmap 100000 1",
        "PFADD hll a b c d e f g",
        "HSET small-hash a 1 b 2 c 3",
        "RPUSH small-list a b 3",
        "SADD ints 1 2 3 70000 5000000000",
        "SADD small-set a b c",
        "ZADD small-zset 1 a 2.5 b inf c -inf d",
        "GEOADD geo 13.36 38.11 Palermo 15.08 37.5 Catania",
        "XADD stream 1-1 a 1 b 2",
        "XADD stream 2-1 a 1 b 2",
        "XADD stream 3-1 c 3",
        "XDEL stream 2-1",
        "XGROUP CREATE stream g1 0",
        "XGROUP CREATE stream g2 $",
        "XREADGROUP GROUP g1 alice COUNT 1 STREAMS stream >",
        "XREADGROUP GROUP g1 bob COUNT 5 STREAMS stream >",
        "SET volatile v EX 100000",
        "HSET volatile-hash a 1",
        "PEXPIRE volatile-hash 100000000",
    ] {
        commands.push(words(line));
    }
    for i in 0..3000u32 {
        let i = i.to_string();
        commands.push(words(&format!("HSET big-hash f{i} value-{i}")));
        commands.push(words(&format!("RPUSH big-list element-{i}")));
        commands.push(words(&format!("SADD big-set member-{i}")));
        commands.push(words(&format!("ZADD big-zset {i}.25 member-{i}")));
        commands.push(words(&format!("XADD big-stream {}-0 n {i}", i.parse::<u32>().unwrap() + 1)));
    }
    let part = |text: &str| text.as_bytes().to_vec();
    commands.push(vec![part("SET"), noise(40, 1), noise(5000, 2)]);
    commands.push(vec![part("SET"), b"\0\xff\r\n*3".to_vec(), vec![0; 300_000]]);
    commands.push(vec![part("RPUSH"), part("huge-elements"), noise(20_000, 3), vec![b'x'; 20_000]]);
    commands.push(vec![part("HSET"), part("huge-field"), noise(3000, 4), noise(3000, 5)]);
    for db in 1..16u32 {
        commands.push(words(&format!("SELECT {db}")));
        for i in 0..db {
            commands.push(words(&format!("SET db{db}-{i} x")));
        }
        commands.push(words(&format!("SET db{db}-volatile x EX 100000")));
    }
    if server.has_field_expiry() {
        commands.push(words("SELECT 0"));
        commands.push(words("HSET fields-expire a 1 b 2"));
        commands.push(words("HPEXPIRE fields-expire 100000000 FIELDS 1 a"));
    }
    talk.all(commands);
    if server.flavour.major >= 7 {
        let code = b"#!lua name=mylib\nredis.register_function('myfunc', function(keys, args) return args[1] end)\n-- and a comment that makes it long enough to be compressed";
        talk.all([vec![part("FUNCTION"), part("LOAD"), code.to_vec()]]);
    }
}

/// Keys without a pattern, some with expiry; returns how many do not expire per database.
pub fn random(server: &Server, seed: u64, keys: usize) {
    let mut random = Random::new(seed);
    let mut talk = server.socket().unwrap();
    let mut commands = Vec::new();
    for _ in 0..keys {
        let r = &mut random;
        let mut command: Vec<Vec<u8>> = Vec::new();
        let mut key = r.bytes(60);
        let kind = r.below(7);
        key.push(b'0' + kind as u8);
        let verb = ["SET", "RPUSH", "SADD", "ZADD", "HSET", "XADD", "SETBIT"][kind as usize];
        command.push(verb.as_bytes().to_vec());
        command.push(key.clone());
        match kind {
            0 => command.push(r.bytes(3000)),
            3 => {
                for _ in 0..1 + r.below(200) {
                    command.push(((r.next() as i32) as f64 / 7.0).to_string().into_bytes());
                    command.push(r.bytes(90));
                }
            }
            4 => {
                for _ in 0..1 + r.below(200) {
                    command.push(r.bytes(30));
                    command.push(r.bytes(100));
                }
            }
            5 => command.extend([b"*".to_vec(), r.bytes(30), r.bytes(300)]),
            6 => command.extend([r.below(10_000).to_string().into_bytes(), b"1".to_vec()]),
            _ => command.extend((0..1 + r.below(200)).map(|_| r.bytes(90)).collect::<Vec<_>>()),
        }
        commands.push(vec![b"SELECT".to_vec(), r.below(16).to_string().into_bytes()]);
        commands.push(command);
        if r.below(3) == 0 {
            commands.push(vec![b"EXPIRE".to_vec(), key, (100_000 + r.below(1000)).to_string().into_bytes()]);
        }
    }
    talk.all(commands);
}
