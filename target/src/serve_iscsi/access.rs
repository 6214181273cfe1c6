//! What login and discovery may know about the node: who may see which target, and with which secret.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wire::iscsi::login::{Access, Authentication, LoginStatus};

use crate::message::Directory;
use crate::settings::{IscsiAuthentication, IscsiSettings};

/// The node as one initiator's address sees it.
pub struct NodeAccess {
    directory: Arc<Directory>,
    address: Option<IpAddr>,
}

impl NodeAccess {
    /// As of `directory`, for a connection from `address`.
    pub fn new(directory: Arc<Directory>, address: Option<SocketAddr>) -> NodeAccess {
        NodeAccess { directory, address: address.map(|address| address.ip().to_canonical()) }
    }

    /// The settings of the front.
    pub fn settings(&self) -> &IscsiSettings {
        &self.directory.iscsi
    }

    /// What SendTargets tells `initiator_name`, which came to `local`.
    pub fn targets(&self, initiator_name: &str, local: Option<SocketAddr>) -> Vec<(String, Vec<String>)> {
        let (Some(address), Some(local)) = (self.address, local) else { return Vec::new() };
        let settings = self.settings();
        let group = settings.portal_group;
        let addresses: Vec<String> =
            settings.addresses(local).into_iter().map(|address| format!("{address},{group}")).collect();
        let visible = settings.visible(initiator_name, address);
        visible.map(|target| (target.name.clone(), addresses.clone())).collect()
    }
}

impl Access for NodeAccess {
    fn authentication(
        &self,
        initiator_name: &str,
        target_name: Option<&str>,
    ) -> Result<Authentication, LoginStatus> {
        let Some(target_name) = target_name else {
            return Ok(asked(&self.settings().discovery, String::new()));
        };
        let target = self.settings().targets.get(target_name).ok_or(LoginStatus::NOT_FOUND)?;
        if !self.address.is_some_and(|address| target.admits(initiator_name, address)) {
            return Err(LoginStatus::AUTHORIZATION_FAILURE);
        }
        Ok(asked(&target.authentication, target.alias.clone()))
    }

    fn portal_group(&self) -> u16 {
        self.settings().portal_group
    }
}

fn asked(authentication: &IscsiAuthentication, target_alias: String) -> Authentication {
    Authentication { chap_users: authentication.users.clone(), own: authentication.own.clone(), target_alias }
}
