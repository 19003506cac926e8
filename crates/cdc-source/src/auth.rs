//! Authentication: trust, cleartext, md5, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (Postgres
//! documentation, "Start-up" and "SASL Authentication" in the chapter on the protocol).

use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secrecy::{ExposeSecret, SecretString};

use crate::endpoint::ChannelBindingMode;
use crate::error::{SourceError, SourceErrorKind};
use crate::wire::{Incoming, Wire};

/// What we bring to the exchange.
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Option<SecretString>,
    pub(crate) mode: ChannelBindingMode,
    /// The `tls-server-end-point` data, when TLS is on and its hash is known.
    pub(crate) channel_binding: Option<Vec<u8>>,
}

/// Answers the server until it says AuthenticationOk.
pub(crate) async fn authenticate(
    wire: &mut Wire,
    credentials: &Credentials,
) -> Result<(), SourceError> {
    let mut bound = false;
    match receive(wire).await? {
        Message::AuthenticationOk => return finish(credentials, bound),
        Message::AuthenticationCleartextPassword => {
            let password = credentials.password()?;
            send_password(wire, password.expose_secret().as_bytes()).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            let password = credentials.password()?.expose_secret();
            let hash = md5_hash(
                credentials.user.as_bytes(),
                password.as_bytes(),
                body.salt(),
            );
            send_password(wire, hash.as_bytes()).await?;
        }
        Message::AuthenticationSasl(body) => bound = sasl(wire, credentials, &body).await?,
        Message::AuthenticationGss | Message::AuthenticationSspi => {
            return Err(unsupported("GSSAPI or SSPI"));
        }
        Message::AuthenticationKerberosV5 | Message::AuthenticationScmCredential => {
            return Err(unsupported("Kerberos 5 or SCM credentials"));
        }
        _ => return Err(out_of_order()),
    }
    match receive(wire).await? {
        Message::AuthenticationOk => finish(credentials, bound),
        _ => Err(out_of_order()),
    }
}

impl Credentials {
    fn password(&self) -> Result<&SecretString, SourceError> {
        self.password.as_ref().ok_or_else(|| {
            SourceError::permanent(
                SourceErrorKind::Auth,
                "the server asks for a password and none is given",
            )
            .with_remedy("give one in the url, a password file, a password command or ~/.pgpass")
        })
    }
}

/// Whether the exchange was bound to the channel.
async fn sasl(
    wire: &mut Wire,
    credentials: &Credentials,
    body: &AuthenticationSaslBody,
) -> Result<bool, SourceError> {
    let mut plain = false;
    let mut plus = false;
    let mut mechanisms = body.mechanisms();
    while let Some(mechanism) = mechanisms
        .next()
        .map_err(|cause| SourceError::malformed("list of SASL mechanisms", cause))?
    {
        plain |= mechanism == SCRAM_SHA_256;
        plus |= mechanism == SCRAM_SHA_256_PLUS;
    }
    let wanted = credentials.mode != ChannelBindingMode::Disable;
    let (mechanism, binding, bound) = match &credentials.channel_binding {
        Some(data) if wanted && plus => (
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(data.clone()),
            true,
        ),
        // Tells the server that we could have, so that nobody can hide its offer from us.
        Some(_) if wanted && plain => (SCRAM_SHA_256, ChannelBinding::unrequested(), false),
        _ if plain => (SCRAM_SHA_256, ChannelBinding::unsupported(), false),
        _ => return Err(unsupported("a SASL mechanism other than SCRAM-SHA-256")),
    };
    if credentials.mode == ChannelBindingMode::Require && !bound {
        return Err(binding_required());
    }
    let failed = |cause| {
        SourceError::permanent(
            SourceErrorKind::Auth,
            "the server did not prove that it knows the password",
        )
        .caused_by(cause)
    };
    let password = credentials.password()?.expose_secret();
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    frontend::sasl_initial_response(mechanism, scram.message(), wire.outbound())
        .map_err(cannot_send)?;
    wire.flush().await?;
    let Message::AuthenticationSaslContinue(body) = receive(wire).await? else {
        return Err(out_of_order());
    };
    scram.update(body.data()).map_err(failed)?;
    frontend::sasl_response(scram.message(), wire.outbound()).map_err(cannot_send)?;
    wire.flush().await?;
    let Message::AuthenticationSaslFinal(body) = receive(wire).await? else {
        return Err(out_of_order());
    };
    scram.finish(body.data()).map_err(failed)?;
    Ok(bound)
}

fn finish(credentials: &Credentials, bound: bool) -> Result<(), SourceError> {
    if credentials.mode == ChannelBindingMode::Require && !bound {
        return Err(binding_required());
    }
    Ok(())
}

async fn send_password(wire: &mut Wire, password: &[u8]) -> Result<(), SourceError> {
    frontend::password_message(password, wire.outbound()).map_err(cannot_send)?;
    wire.flush().await
}

async fn receive(wire: &mut Wire) -> Result<Message, SourceError> {
    loop {
        match wire.next().await? {
            Incoming::Message(Message::ErrorResponse(body)) => {
                return Err(SourceError::from_response(&body));
            }
            Incoming::Message(Message::NoticeResponse(_)) => {}
            Incoming::Message(message) => return Ok(message),
            Incoming::CopyData(_) | Incoming::CopyBoth => return Err(out_of_order()),
        }
    }
}

fn binding_required() -> SourceError {
    SourceError::permanent(
        SourceErrorKind::Auth,
        "channel binding is required, and the server did not use it",
    )
    .with_remedy("it needs TLS and a password stored as SCRAM-SHA-256; or drop channel_binding")
}

fn unsupported(method: &str) -> SourceError {
    SourceError::permanent(
        SourceErrorKind::Auth,
        format!("the server asks for {method}, which is not supported"),
    )
    .with_remedy("use scram-sha-256, md5, password, cert or trust in pg_hba.conf")
}

fn out_of_order() -> SourceError {
    SourceError::protocol("a message of the server came out of order during authentication")
}

fn cannot_send(cause: std::io::Error) -> SourceError {
    SourceError::permanent(SourceErrorKind::Config, "the password cannot be sent").caused_by(cause)
}

#[cfg(test)]
mod tests;
