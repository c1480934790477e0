//! TLS to a server, as libpq's `sslmode` asks for it
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

/// What is asked of a server's certificate.
#[derive(Clone)]
pub(super) enum Verify {
    /// Nothing: the connection is encrypted, with whomever.
    Nothing,
    /// It was issued by an authority that is trusted.
    Authority(Roots),
    /// It was, and for the host's name.
    Name(Roots),
}

/// Which authorities are trusted.
#[derive(Clone)]
pub(super) enum Roots {
    /// Those of this machine.
    System,
    /// Those in this PEM file.
    File(PathBuf),
}

impl Verify {
    /// Reads `sslmode` and `sslrootcert`.
    pub(super) fn of(sslmode: Option<&str>, sslrootcert: Option<&str>) -> Result<(SslMode, Self), String> {
        let roots = match sslrootcert {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(path.into()),
        };
        Ok(match (sslmode.unwrap_or("prefer"), &roots) {
            ("disable", _) => (SslMode::Disable, Self::Nothing),
            // Without TLS first, for libpq: what it allows to be less safe is no loss.
            ("prefer" | "allow", _) => (SslMode::Prefer, Self::Nothing),
            // With a root certificate, libpq takes it for verify-ca.
            ("require", Roots::System) => (SslMode::Require, Self::Nothing),
            ("require" | "verify-ca", _) => (SslMode::Require, Self::Authority(roots)),
            ("verify-full", _) => (SslMode::Require, Self::Name(roots)),
            (other, _) => {
                let known = "disable, allow, prefer, require, verify-ca or verify-full";
                return Err(format!("sslmode '{other}' is not known: expected {known}"));
            }
        })
    }

    /// What opens connections with TLS.
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
        // What servers since version 17 ask for.
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

/// Accepts a certificate whatever host it names, if it is from one of the authorities, if any are asked for.
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
            // The name is looked at last.
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
