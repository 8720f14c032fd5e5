//! Certificates of one test: an authority, a server's certificate that it signed, and another
//! authority that signed nothing.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::account::Account;

/// Files in the PEM format. The certificate of the server is for the name `localhost` only, so that
/// a client that asks for `127.0.0.1` must refuse it.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate of the authority that a client has to trust.
    pub authority: PathBuf,
    /// The certificate of another authority; who trusts only this one must refuse the server.
    pub foreign_authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Tls {
    /// Makes them in a folder; the key is readable by the account only.
    pub(crate) fn make(folder: &Path, account: Option<Account>) -> io::Result<Self> {
        let (authority, issuer) =
            authority("Posthaste test authority").map_err(io::Error::other)?;
        let (foreign, _) =
            self::authority("Posthaste foreign authority").map_err(io::Error::other)?;
        let (certificate, key) = server(&issuer).map_err(io::Error::other)?;
        let keep = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text)?;
            if let Some(account) = account {
                account.give(&file)?;
            }
            io::Result::Ok(file)
        };
        let tls = Self {
            authority: keep("authority.pem", &authority)?,
            foreign_authority: keep("foreign-authority.pem", &foreign)?,
            certificate: keep("certificate.pem", &certificate)?,
            key: keep("key.pem", &key)?,
        };
        std::fs::set_permissions(&tls.key, PermissionsExt::from_mode(0o600))?;
        Ok(tls)
    }
}

/// A certificate that signs others, and what it signs with.
fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn server(issuer: &Issuer<'static, KeyPair>) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(["localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}
