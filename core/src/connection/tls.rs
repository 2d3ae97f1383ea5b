//! TLS as the settings ask for it. There is no way to switch verification off.
//!
//! Owns the choice of the one crypto provider, and the name a certificate is verified for.

use super::sign_in::readable;
use crate::{
    config::{Config, Tls},
    error::{Error, Result},
};
use async_nats::{
    ConnectOptions,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    },
};
use std::{path::Path, sync::Arc};

pub(super) fn apply(mut options: ConnectOptions, config: &Config) -> Result<ConnectOptions> {
    // One provider, chosen here, whatever features other crates of the process turn on; one that the application
    // has installed itself stays.
    let _ = ring::default_provider().install_default();
    let Some(tls) = &config.tls else { return Ok(options) };
    for file in [&tls.ca, &tls.cert, &tls.key].into_iter().flatten() {
        readable(file, "tls")?;
    }
    if tls.first {
        options = options.tls_first();
    }
    if let Some(name) = &tls.server_name {
        return Ok(options.tls_client_config(named(tls, name)?));
    }
    // Read again by the client for every connection: renewed certificates are picked up.
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(options)
}

fn wrong(file: &Path, e: impl std::fmt::Display) -> Error {
    Error::config(format!("tls: {} is not in PEM, or not what it should be: {e}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| wrong(file, e))
}

/// A configuration that verifies the server's certificate for another name than the one dialled.
fn named(tls: &Tls, name: &str) -> Result<ClientConfig> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::config(format!("tls.server_name: {name:?} is not a host name or address")))?;
    let mut roots = RootCertStore::empty();
    if let Some(ca) = &tls.ca {
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|e| wrong(ca, e))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider: Arc<CryptoProvider> =
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|e| Error::config(format!("tls: no authority to trust: {e}")))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::config(format!("tls: {e}")))?
        .dangerous() // by its name only: what is installed verifies all that the usual one does
        .with_custom_certificate_verifier(Arc::new(Named { inner, name }));
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, e))?;
            builder.with_client_auth_cert(certificates(cert)?, secret).map_err(|e| wrong(cert, e))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// The usual verifier, asked about another name.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(end, between, &self.name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
