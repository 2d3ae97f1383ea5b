//! Certificates: an authority of the test's own, and what it issues.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An authority and the folder it writes to.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Its own certificate is `ca.pem` in the folder.
    pub fn new(dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }
    /// Issues `<file>.pem` and `<file>.key` for these names.
    pub fn issue(&self, file: &str, names: &[&str]) {
        self.issue_with(file, names, |_| ());
    }
    /// The same, for a time that is over.
    pub fn issue_expired(&self, file: &str, names: &[&str]) {
        self.issue_with(file, names, |params| params.not_after = date_time_ymd(2020, 1, 1));
    }
    fn issue_with(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        fs::write(self.dir.join(format!("{file}.pem")), pem).unwrap();
        write_secret(&self.dir.join(format!("{file}.key")), &key.serialize_pem());
    }
    /// The path of a file in its folder.
    pub fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }
    /// A server's `tls` block with the certificate issued under a name.
    pub fn tls(&self, file: &str, more: &str) -> String {
        let (cert, key) = (self.path(&format!("{file}.pem")), self.path(&format!("{file}.key")));
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?} {more} }}")
    }
}

/// Writes a file that only its owner can read.
pub fn write_secret(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}
