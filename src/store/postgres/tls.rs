//! This file sets up TLS to a server, as libpq's `sslmode` asks for it
//! (<https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION>).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::parameters::SSL_MODES;

/// The checks on a server's certificate.
#[derive(Clone)]
pub(super) enum Verify {
    /// Nothing is verified: the connection is encrypted, but may be to any server.
    Nothing,
    /// A trusted authority issued the certificate.
    Authority(Roots),
    /// A trusted authority issued the certificate, and for the host's name.
    Name(Roots),
}

/// The authorities that are trusted.
#[derive(Clone)]
pub(super) enum Roots {
    /// The authorities that this machine trusts.
    System,
    /// The authorities in this PEM file.
    File(PathBuf),
}

impl Verify {
    /// Reads `sslmode` and `sslrootcert`. If `sslrootcert` is `system`, the authorities that this machine
    /// trusts are used. As these certify anybody, the host's name must then be verified, too
    /// (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-SSLROOTCERT>).
    pub(super) fn of(sslmode: Option<&str>, sslrootcert: Option<&str>) -> Result<(SslMode, Self), String> {
        let roots = match sslrootcert {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(path.into()),
        };
        let is_system = sslrootcert == Some("system");
        let mode = sslmode.unwrap_or(if is_system { "verify-full" } else { "prefer" });
        if is_system && mode != "verify-full" {
            return Err(format!("sslmode '{mode}' is too weak for sslrootcert=system: expected verify-full"));
        }
        Ok(match (mode, &roots) {
            ("disable", _) => (SslMode::Disable, Self::Nothing),
            // For `allow`, libpq would try without TLS first. Nothing is lost if TLS is tried first.
            ("prefer" | "allow", _) => (SslMode::Prefer, Self::Nothing),
            // With a root certificate, libpq reads `require` as `verify-ca`.
            ("require", Roots::System) => (SslMode::Require, Self::Nothing),
            ("require" | "verify-ca", _) => (SslMode::Require, Self::Authority(roots)),
            ("verify-full", _) => (SslMode::Require, Self::Name(roots)),
            (other, _) => {
                return Err(format!("sslmode '{other}' is not known: expected one of {}", SSL_MODES.join(", ")));
            }
        })
    }

    /// Returns the connector that opens connections with TLS and does these checks.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|err| err.to_string())?;
        let authorities = |roots: &Roots| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots.load()?), Arc::clone(&provider))
                .build()
                .map_err(|err| err.to_string())
        };
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::Nothing => Arc::new(AnyName { provider, authorities: None }),
            Self::Authority(roots) => {
                let authorities = Some(authorities(roots)?);
                Arc::new(AnyName { provider, authorities })
            }
            Self::Name(roots) => authorities(roots)?,
        };
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        // Servers since version 17 expect this protocol name where TLS begins at once.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(MakeRustlsConnect::new(config))
    }
}

impl Roots {
    fn load(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let certificates = match self {
            Self::System => rustls_native_certs::load_native_certs().certs,
            Self::File(path) => read(path)?,
        };
        let (trusted, _) = roots.add_parsable_certificates(certificates);
        if trusted > 0 {
            return Ok(roots);
        }
        Err(match self {
            Self::System => {
                "cannot be used: this machine has no root certificates: install ca-certificates, or name sslrootcert"
                    .into()
            }
            Self::File(path) => format!("cannot be used: sslrootcert {} holds no certificate", path.display()),
        })
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    certificates.map_err(|err| format!("cannot be used: sslrootcert {} cannot be read: {err}", path.display()))
}

/// Accepts a certificate for any host. With `authorities`, one of them must have issued it.
#[derive(Debug)]
struct AnyName {
    provider: Arc<CryptoProvider>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        match authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is verified last, so every other check has passed.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
