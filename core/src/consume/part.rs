//! A consumer as its bus knows it.

use super::Inner;
use crate::{
    bus::shared::{Later, Part},
    connection::Denied,
    error::Error,
    observe::ConsumerHealth,
};
use tokio::sync::watch;

impl Part for Inner {
    fn topic(&self) -> &str {
        &self.topic
    }
    fn concerns(&self, what: &Denied) -> bool {
        self.concerns(what)
    }
    fn fail(&self, e: Error) {
        self.fail(e);
    }
    fn health(&self) -> Option<ConsumerHealth> {
        self.health()
    }
    fn group_problem(&self) -> Later<'_, Option<String>> {
        Box::pin(self.group_problem())
    }
    fn stop(&self) {
        self.stop();
    }
    fn close(&self) -> Later<'_, ()> {
        Box::pin(self.close())
    }
    fn runs(&self) -> watch::Receiver<usize> {
        self.runs.subscribe()
    }
}
