//! TLS by the settings. Verification cannot be switched off.
//!
//! Owns the choice of the crypto provider, the checks of the files, and the name that a certificate is verified for.

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
    // Select the provider here, whatever features other crates of the process enable. A provider that the application
    // has installed stays.
    let _ = ring::default_provider().install_default();
    let Some(tls) = &config.tls else { return Ok(options) };
    // Fail now with the name of a wrong file. Later the error would be about an untrusted server, or a refusal.
    if let Some(ca) = &tls.ca {
        authorities(ca)?;
    }
    identity(tls)?;
    if tls.first {
        options = options.tls_first();
    }
    if let Some(name) = &tls.server_name {
        return Ok(options.tls_client_config(config_for_name(tls, name)?));
    }
    // The client reads these files again for every connection, so renewed certificates take effect.
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
    // The parser's error may quote a line, and the user may have given the wrong file.
    match all.map_err(|_| wrong(file, "its lines cannot be read"))? {
        none if none.is_empty() => Err(wrong(file, "it holds no certificate")),
        some => Ok(some),
    }
}

/// The certificate authorities in a file.
fn authorities(ca: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| wrong(ca, e))?;
    }
    Ok(roots)
}

/// The client certificate and its key, if given.
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

/// A configuration that verifies the server's certificate for another name than the dialled one. The client still sends
/// the dialled name (SNI), because it cannot send another.
fn config_for_name(tls: &Tls, name: &str) -> Result<ClientConfig> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Error::config(format!("tls.server_name: {name:?} is not a host name or address")))?;
    let (provider, files) = (provider(), Arc::new(tls.clone()));
    let verifier = NameVerifier { files: files.clone(), name, provider: provider.clone() };
    let trust = verifier.usual();
    trust.map_err(|e| Error::config(format!("tls: no authority to trust: {e}")))?;
    let mut made = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::config(format!("tls: {e}")))?
        .dangerous() // in name only: this verifier delegates to the usual one
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(ClientCertificate(files)));
    // A resumed session would skip the renewed files.
    made.resumption = Resumption::disabled();
    Ok(made)
}

/// The usual verifier for another name. It reads its file again for every connection.
#[derive(Debug)]
struct NameVerifier {
    files: Arc<Tls>,
    name: ServerName<'static>,
    provider: Arc<CryptoProvider>,
}

impl NameVerifier {
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

impl ServerCertVerifier for NameVerifier {
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

/// The client certificate, read again for every connection.
#[derive(Debug)]
struct ClientCertificate(Arc<Tls>);

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let read = identity(&self.0);
        // Without a certificate the server refuses the connection, and the next attempt reads the file again.
        read.inspect_err(|e| tracing::warn!(error = %e, "no client certificate")).ok().flatten().map(Arc::new)
    }
    fn has_certs(&self) -> bool {
        self.0.cert.is_some()
    }
}
