//! TLS as the settings ask for it. There is no way to switch verification off.
//!
//! Owns the choice of the one crypto provider, what its files must hold, and the name a certificate is verified for.

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
            ResolvesClientCert, Resumption, WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        sign::CertifiedKey,
    },
};
use std::{path::Path, sync::Arc};

pub(super) fn apply(mut options: ConnectOptions, config: &Config) -> Result<ConnectOptions> {
    // One provider, chosen here, whatever features other crates of the process turn on; one that the application
    // has installed itself stays.
    let _ = ring::default_provider().install_default();
    let Some(tls) = &config.tls else { return Ok(options) };
    // A wrong file shows at once and by its name, not as a server that cannot be trusted, or that refuses us.
    if let Some(ca) = &tls.ca {
        authorities(ca)?;
    }
    identity(tls)?;
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

fn wrong(file: &Path, why: impl std::fmt::Display) -> Error {
    Error::config(format!("tls: {} is not in PEM, or not what it should be: {why}", file.display()))
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = readable(file, "tls")?;
    let all = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    // What the parser says may repeat a line, and somebody may have named the wrong file.
    match all.map_err(|_| wrong(file, "its lines cannot be read"))? {
        none if none.is_empty() => Err(wrong(file, "it holds no certificate")),
        some => Ok(some),
    }
}

/// The authorities of a file.
fn authorities(ca: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| wrong(ca, e))?;
    }
    Ok(roots)
}

/// Our own certificate and its key, if there are any.
fn identity(tls: &Tls) -> Result<Option<CertifiedKey>> {
    let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else { return Ok(None) };
    let secret = PrivateKeyDer::from_pem_slice(readable(key, "tls")?.as_bytes())
        .map_err(|_| wrong(key, "it holds no private key"))?;
    let pair = CertifiedKey::from_der(certificates(cert)?, secret, &provider());
    pair.map(Some).map_err(|e| {
        let (cert, key) = (cert.display(), key.display());
        Error::config(format!("tls: {cert} and {key} are not a certificate and its private key: {e}"))
    })
}

/// A configuration that verifies the server's certificate for another name than the one dialled. The name sent to the
/// server (SNI) stays the one dialled: the client has no way to send another.
fn named(tls: &Tls, name: &str) -> Result<ClientConfig> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::config(format!("tls.server_name: {name:?} is not a host name or address")))?;
    let (provider, files) = (provider(), Arc::new(tls.clone()));
    let verifier = Named { files: files.clone(), name, provider: provider.clone() };
    let trust = verifier.usual();
    trust.map_err(|e| Error::config(format!("tls: no authority to trust: {e}")))?;
    let mut made = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::config(format!("tls: {e}")))?
        .dangerous() // by its name only: what is installed verifies all that the usual one does
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Renewed(files)));
    // A session taken up again would go by the files as they were.
    made.resumption = Resumption::disabled();
    Ok(made)
}

/// The usual verifier, asked about another name; it reads its file again for every connection.
#[derive(Debug)]
struct Named {
    files: Arc<Tls>,
    name: ServerName<'static>,
    provider: Arc<CryptoProvider>,
}

impl Named {
    fn usual(&self) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let general = |e: &dyn std::fmt::Display| rustls::Error::General(e.to_string());
        let roots = if let Some(ca) = &self.files.ca {
            authorities(ca).map_err(|e| general(&e))?
        } else {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        };
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|e| general(&e))
    }
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
        self.usual()?.verify_server_cert(end, between, &self.name, ocsp, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Our own certificate, read again for every connection.
#[derive(Debug)]
struct Renewed(Arc<Tls>);

impl ResolvesClientCert for Renewed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let read = identity(&self.0);
        // Without one the server refuses us, and it is tried again.
        read.inspect_err(|e| tracing::warn!(error = %e, "no client certificate")).ok().flatten().map(Arc::new)
    }
    fn has_certs(&self) -> bool {
        self.0.cert.is_some()
    }
}
