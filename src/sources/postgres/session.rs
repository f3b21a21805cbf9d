//! One SQL session with a server: a connection of our own, or `psql` where only that gets there, as another user of
//! the operating system or in a container.
//!
//! Answers come as JSON arrays, one a row, so that both ways give the same values whatever is in them. What stands
//! in a statement from outside is quoted by [`ident`](super::connect::ident) and
//! [`literal`](super::connect::literal); there are no parameters, since `psql` has none.

use crate::error::{Error, Kind};
use crate::host::exec::{Input, Output, Running};
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A refusal by the server, or the end of the session.
#[derive(Clone, Debug)]
pub struct SqlError {
    /// SQLSTATE, when the server said one.
    pub code: Option<String>,
    /// Its words.
    pub text: String,
}

/// SQLSTATE of a lock that somebody else holds or waits for.
pub const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE of a database of that name.
pub const DUPLICATE_DATABASE: &str = "42P04";
/// SQLSTATE of a name that somebody else is just giving.
pub const UNIQUE_VIOLATION: &str = "23505";
/// SQLSTATE of a database that somebody is connected to.
pub const OBJECT_IN_USE: &str = "55006";
/// SQLSTATE of a statement that took longer than it may, or that somebody has ended.
pub const QUERY_CANCELED: &str = "57014";
/// SQLSTATE of a missing privilege.
pub const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// What a session answers.
pub type SqlResult<T> = Result<T, SqlError>;

impl SqlError {
    /// An error of the agent that says what could not be done.
    pub fn says(&self, what: impl Into<String>) -> Error {
        let why = match &self.code {
            Some(code) => format!("{code}: {}", self.text),
            None => self.text.clone(),
        };
        Error::new(Kind::Source, what).because(why)
    }

    /// True for this SQLSTATE.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    fn lost(text: impl std::fmt::Display) -> Self {
        SqlError { code: None, text: text.to_string() }
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(e: tokio_postgres::Error) -> Self {
        match e.as_db_error() {
            Some(db) => {
                let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
                SqlError { code: Some(db.code().code().to_owned()), text: format!("{}{detail}", db.message()) }
            }
            None => SqlError::lost(std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string)),
        }
    }
}

/// One row of an answer.
#[derive(Clone, Debug)]
pub struct Row(Vec<Value>);

impl Row {
    /// A text; empty for NULL.
    pub fn text(&self, column: usize) -> String {
        self.option(column).unwrap_or_default()
    }

    /// A text, or nothing for NULL.
    pub fn option(&self, column: usize) -> Option<String> {
        match self.0.get(column) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        }
    }

    /// A whole number; 0 for NULL and for what is below.
    pub fn number(&self, column: usize) -> u64 {
        self.0.get(column).and_then(Value::as_u64).unwrap_or(0)
    }

    /// A whole number that may be negative or NULL.
    pub fn integer(&self, column: usize) -> Option<i64> {
        self.0.get(column).and_then(Value::as_i64)
    }

    /// A truth value; false for NULL.
    pub fn truth(&self, column: usize) -> bool {
        self.0.get(column).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A value as it is, for facts that are kept as JSON.
    pub fn value(&self, column: usize) -> Value {
        self.0.get(column).cloned().unwrap_or(Value::Null)
    }
}

/// A session. Ends when it is dropped; the server then rolls back what is open.
pub struct Session(Way);

enum Way {
    Direct(Client),
    Psql(Box<Mutex<Psql>>),
}

/// A `psql` that reads statements from a pipe.
struct Psql {
    running: Option<Running>,
    input: Input,
    output: BufReader<Output>,
    /// Announces the end of an answer; nobody else can know it.
    token: String,
}

impl Session {
    /// A session on a connection.
    pub fn direct(client: Client) -> Self {
        Session(Way::Direct(client))
    }

    /// A session with a `psql` that was started with `-XAtq`.
    pub fn psql(running: Running, input: Input, output: Output) -> Self {
        let token = format!("backstay-{:032x}", rand::random::<u128>());
        let psql = Psql { running: Some(running), input, output: BufReader::new(output), token };
        Session(Way::Psql(Box::new(Mutex::new(psql))))
    }

    /// Runs one statement that answers nothing. One: after a refusal `psql` would go on with the next, and the `COMMIT`
    /// of a failed transaction is no error.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn run(&self, sql: &str) -> Result<(), SqlError> {
        match &self.0 {
            Way::Direct(client) => Ok(client.batch_execute(sql).await?),
            Way::Psql(psql) => psql.lock().await.answer(sql).await.map(|_| ()),
        }
    }

    /// Runs statements one after the other.
    ///
    /// # Errors
    /// The first refusal; those behind it are not run.
    pub async fn run_all(&self, statements: &[String]) -> Result<(), SqlError> {
        for statement in statements {
            self.run(statement).await?;
        }
        Ok(())
    }

    /// Puts rows in, in COPY's text format, without leaving the transaction.
    ///
    /// # Errors
    /// The server's refusal, or why the rows ended early.
    pub async fn copy_in(&self, copy: &str, mut rows: impl Stream<Item = SqlResult<Bytes>> + Unpin) -> SqlResult<()> {
        match &self.0 {
            Way::Direct(client) => {
                let mut sink = std::pin::pin!(client.copy_in::<_, Bytes>(copy).await?);
                while let Some(piece) = rows.next().await {
                    if let Err(e) = sink.send(piece?).await {
                        // The server has refused a row; only the end of the copy tells which.
                        return Err(sink.finish().await.err().unwrap_or(e).into());
                    }
                }
                sink.finish().await?;
                Ok(())
            }
            Way::Psql(psql) => psql.lock().await.copy_in(copy, rows).await,
        }
    }

    /// Asks for rows: a list of columns, and what follows it from `FROM` on.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn rows(&self, columns: &str, rest: &str) -> Result<Vec<Row>, SqlError> {
        let sql = format!("SELECT json_build_array({columns})::text {rest}");
        let lines = match &self.0 {
            Way::Direct(client) => client
                .simple_query(&sql)
                .await?
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                    _ => None,
                })
                .collect(),
            Way::Psql(psql) => psql.lock().await.answer(&sql).await?,
        };
        lines
            .iter()
            .map(|line| serde_json::from_str(line).map(Row).map_err(|e| SqlError::lost(format!("{e} in {line:?}"))))
            .collect()
    }

    /// Asks for exactly one row.
    ///
    /// # Errors
    /// The server's refusal, or another number of rows.
    pub async fn row(&self, columns: &str, rest: &str) -> Result<Row, SqlError> {
        let mut rows = self.rows(columns, rest).await?;
        match rows.len() {
            1 => Ok(rows.remove(0)),
            n => Err(SqlError::lost(format!("{n} rows instead of one"))),
        }
    }

    /// True when there is at least one such row; the text begins with `FROM`.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn any(&self, rest: &str) -> Result<bool, SqlError> {
        Ok(!self.rows("1", &format!("{rest} LIMIT 1")).await?.is_empty())
    }
}

impl Psql {
    /// Sends a statement and gives the lines of its answer.
    async fn answer(&mut self, sql: &str) -> SqlResult<Vec<String>> {
        self.say(format!("{sql}\n;\n").as_bytes()).await?;
        self.outcome().await
    }

    /// Rows stand in the script behind their statement. After a refusal psql reads them to their end all the same.
    async fn copy_in(&mut self, copy: &str, mut rows: impl Stream<Item = SqlResult<Bytes>> + Unpin) -> SqlResult<()> {
        self.say(format!("{copy};\n").as_bytes()).await?;
        while let Some(piece) = rows.next().await {
            self.say(&piece?).await?;
        }
        self.say(b"\\.\n").await?;
        self.outcome().await?;
        // Of a COPY that failed psql's variables do not tell; the next statement finds the transaction aborted.
        match self.answer("SELECT 1 WHERE false").await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.last_words().await.unwrap_or(e)),
        }
    }

    async fn say(&mut self, script: &[u8]) -> SqlResult<()> {
        match self.input.write_all(script).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.ended().await),
        }
    }

    /// The lines of the last statement's answer, or why there are none.
    async fn outcome(&mut self) -> SqlResult<Vec<String>> {
        let token = self.token.clone();
        self.say(format!("\\echo {token} :ERROR :SQLSTATE\n\\echo :LAST_ERROR_MESSAGE\n\\echo {token}\n").as_bytes())
            .await?;
        if self.input.flush().await.is_err() {
            return Err(self.ended().await);
        }
        let mut lines = Vec::new();
        let status = loop {
            let line = self.line().await?;
            match line.strip_prefix(&token) {
                Some(status) => break status.trim().to_owned(),
                None => lines.push(line),
            }
        };
        let mut message = Vec::new();
        loop {
            let line = self.line().await?;
            if line == token {
                break;
            }
            message.push(line);
        }
        match status.split_once(' ') {
            Some(("true", code)) => Err(SqlError { code: Some(code.to_owned()), text: message.join("\n") }),
            _ => Ok(lines),
        }
    }

    async fn line(&mut self) -> Result<String, SqlError> {
        let mut line = Vec::new();
        match self.output.read_until(b'\n', &mut line).await {
            Ok(n) if n > 0 && line.ends_with(b"\n") => {
                line.pop();
                String::from_utf8(line).map_err(SqlError::lost)
            }
            _ => Err(self.ended().await),
        }
    }

    /// Lets psql end, for what it said on its standard error.
    async fn last_words(&mut self) -> Option<SqlError> {
        drop(std::mem::replace(&mut self.input, Box::new(tokio::io::sink())));
        let said = self.running.take()?.finish(Kind::Source).await.ok()?;
        (!said.is_empty()).then(|| SqlError::lost(said.join("\n")))
    }

    /// psql is gone; its last words say why.
    async fn ended(&mut self) -> SqlError {
        let Some(running) = self.running.take() else { return SqlError::lost("psql has ended") };
        match running.finish(Kind::Source).await {
            Ok(said) => SqlError::lost(format!("psql has ended: {}", said.join("\n"))),
            Err(e) => SqlError::lost(e.one_line()),
        }
    }
}
