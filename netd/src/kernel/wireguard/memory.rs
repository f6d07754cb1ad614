//! A strict device in memory, held to the same contract as the real ones.

use std::collections::{BTreeMap, BTreeSet};

use cell_netd_core::desired::Wireguard;
use cell_netd_core::fake::FakeKernel;
use cell_netd_core::model::{InterfaceName, PublicKey};
use cell_netd_core::observed::{Device, DevicePeer, Identity};
use cell_netd_core::plan::{PeerUpdate, Step};
use futures_util::future::{BoxFuture, ready};

use super::{
    Backend, BackendError, DeviceState, PeerStatistics, PrivateKey, TunnelSecrets, limited, peer_statistics,
};

/// The device.
#[derive(Debug, Default)]
pub struct Memory {
    kernel: FakeKernel,
    /// Of exits; none: without a key.
    tunnels: BTreeMap<InterfaceName, Option<Device>>,
}

impl Memory {
    fn apply(&mut self, step: &Step) -> BoxFuture<'static, Result<(), BackendError>> {
        let outcome = self
            .kernel
            .apply(step)
            .map_err(|refused| BackendError::Refused(refused.to_string()));
        Box::pin(ready(outcome))
    }

    fn state(&self, interface: &InterfaceName) -> Option<DeviceState> {
        let link = self.kernel.link.as_ref().filter(|link| link.name == *interface);
        let device = match link {
            Some(link) => link.device.clone()?,
            None => self.tunnels.get(interface)?.clone()?,
        };
        let statistics: BTreeMap<_, _> = device
            .peers
            .iter()
            .map(|(key, peer)| (*key, peer_statistics(peer)))
            .collect();
        Some(DeviceState { device, statistics })
    }
}

impl Backend for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn create<'a>(
        &'a mut self,
        wireguard: &'a Wireguard,
        _: &'a PrivateKey,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        self.apply(&Step::CreateDevice(wireguard.clone()))
    }

    fn create_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let taken = self.tunnels.contains_key(interface);
        let outcome = if taken {
            Err(BackendError::Refused("the name is taken".to_owned()))
        } else {
            self.tunnels.insert(interface.clone(), None);
            Ok(())
        };
        Box::pin(ready(outcome))
    }

    fn set_tunnel<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        secrets: &'a TunnelSecrets,
        peers: &'a BTreeMap<PublicKey, DevicePeer>,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        let device = secrets.key.public().map(|public_key| Device {
            public_key,
            listen_port: 40_000,
            fwmark: 0,
            peers: peers.clone(),
            preshared: secrets.preshared.keys().copied().collect(),
        });
        let outcome = match self.tunnels.get_mut(interface) {
            Some(tunnel) => {
                *tunnel = device;
                Ok(())
            }
            None => Err(BackendError::Refused("there is no such interface".to_owned())),
        };
        Box::pin(ready(outcome))
    }

    fn update<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        update: &'a PeerUpdate,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
        if let Some(device) = self.tunnels.get_mut(interface) {
            let Some(device) = device else {
                let refused = BackendError::Refused("no key yet".to_owned());
                return Box::pin(ready(Err(refused)));
            };
            device.peers.retain(|key, _| !update.removed.contains(key));
            for (key, peer) in &update.upserted {
                let before = device.peers.insert(*key, peer.clone());
                if let (Some(before), Some(now)) = (before, device.peers.get_mut(key)) {
                    now.endpoint = now.endpoint.or(before.endpoint);
                }
            }
            let peers = &device.peers;
            device.preshared.retain(|key| peers.contains_key(key));
            return Box::pin(ready(Ok(())));
        }
        self.apply(&Step::UpdatePeers(interface.clone(), update.clone()))
    }

    fn device<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<DeviceState>, BackendError>> {
        Box::pin(ready(Ok(self.state(interface))))
    }

    fn identity<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
    ) -> BoxFuture<'a, Result<Option<Identity>, BackendError>> {
        let state = self.state(interface);
        Box::pin(ready(Ok(state.map(|state| state.device.identity()))))
    }

    fn reads_single_peers(&self) -> bool {
        true
    }

    fn some_peers<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        keys: &'a BTreeSet<PublicKey>,
    ) -> BoxFuture<'a, Result<Option<Device>, BackendError>> {
        let state = self.state(interface);
        Box::pin(ready(Ok(state.map(|state| limited(state.device, keys)))))
    }

    fn statistics_of<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        key: &'a PublicKey,
    ) -> BoxFuture<'a, Result<Option<PeerStatistics>, BackendError>> {
        let state = self.state(interface);
        Box::pin(ready(Ok(
            state.and_then(|state| state.statistics.get(key).copied())
        )))
    }
}
