//! A strict device in memory, held to the same contract as the real ones.

use std::collections::{BTreeMap, BTreeSet};

use cell_netd_core::desired::Wireguard;
use cell_netd_core::fake::FakeKernel;
use cell_netd_core::model::{InterfaceName, PublicKey};
use cell_netd_core::observed::{Device, Identity};
use cell_netd_core::plan::{PeerUpdate, Step};
use futures_util::future::{BoxFuture, ready};

use super::{Backend, BackendError, DeviceState, PeerStatistics, PrivateKey, limited, peer_statistics};

/// The device.
#[derive(Debug, Default)]
pub struct Memory(FakeKernel);

impl Memory {
    fn apply(&mut self, step: &Step) -> BoxFuture<'static, Result<(), BackendError>> {
        let outcome = self
            .0
            .apply(step)
            .map_err(|refused| BackendError::Refused(refused.to_string()));
        Box::pin(ready(outcome))
    }

    fn state(&self, interface: &InterfaceName) -> Option<DeviceState> {
        let link = self.0.link.as_ref().filter(|link| link.name == *interface)?;
        let device = link.device.clone()?;
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

    fn update<'a>(
        &'a mut self,
        interface: &'a InterfaceName,
        update: &'a PeerUpdate,
    ) -> BoxFuture<'a, Result<(), BackendError>> {
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
