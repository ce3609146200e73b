//! The applying of a plan. Nothing here can fail, and each step leaves a proxy that serves.

use std::sync::Arc;

use super::plan::{Fate, Opened, Plan};
use super::reload::Reloader;
use super::running::Running;
use super::warmth::{Cold, warm_up};
use crate::admin::Scene;
use crate::names::Color;
use crate::table::{Edge, Entry, Published, Routes};

impl Reloader {
    /// What the workers answered, where they were given another table.
    ///
    /// Endpoints change before the table, so that a worker that has answered with it chooses none that is gone.
    pub async fn apply(&mut self, plan: Plan) -> Option<Published> {
        let Plan { to, services, needs_table, opened, access_log, gone, waiting } = plan;
        for fate in &services {
            if let Fate::Changes(service, met) = fate {
                for color in Color::BOTH {
                    service.pools[color].follow(&service.rules, met[color].clone()).await;
                }
            }
        }
        let published = if needs_table { Some(self.publish(&to, &services).await) } else { None };
        self.scene.capacity.look_again();
        self.scene.admin.store(Arc::new(to.config.admin.clone()));
        self.seat(services);
        self.followers.follow(&to.config, &self.scene, &mut self.accounts).await;
        self.scouts.follow(&to.config, &self.scene, &mut self.accounts).await;
        self.foremen.follow(&to.config, &self.scene, &mut self.accounts).await;
        if let Some(log) = access_log {
            // Where requests begin their lines from now on; those under way end theirs where they began them.
            self.doors.log_to(log.as_ref()).await;
            self.scene.access_log.replace(log);
        }
        self.change_listeners(&to, opened).await;
        drop(waiting);
        for (service, paused) in gone {
            paused.end(service.rules.cutover.drain.clone());
            for (_, pool) in service.pools.iter() {
                pool.retire().await;
            }
        }
        self.running = to;
        published
    }

    async fn publish(&self, to: &Running, services: &[Fate]) -> Published {
        let switchboard = &self.scene.switchboard;
        let table = switchboard.table();
        let entry = |fate: &Fate| match fate {
            Fate::Begins(draft) => Some(draft.entry(&self.scene.journal)),
            Fate::Stays(service) | Fate::Changes(service, _) => {
                table.entry(&service.name).map(|known| Entry { service: service.clone(), ..known.clone() })
            }
        };
        self.warm_newcomers_up(services).await;
        // Every service that does not begin is in the table, and only a reload takes one out.
        let entries = services.iter().filter_map(entry).collect();
        let (edge, routes) = (Edge::new(&to.config), Routes::new(&to.config.services));
        switchboard.replace(Arc::new(edge), Arc::new(routes), entries).await
    }

    /// Those that begin are warmed up before any request is led to them: they come into the table, behind all others, and
    /// its routes are as they were.
    async fn warm_newcomers_up(&self, services: &[Fate]) {
        let begins = |fate: &Fate| match fate {
            Fate::Begins(draft) => Some(draft.entry(&self.scene.journal)),
            Fate::Stays(_) | Fate::Changes(..) => None,
        };
        let newcomers: Vec<Entry> = services.iter().filter_map(begins).collect();
        let cold: Vec<Cold> = newcomers.iter().filter_map(Cold::at_reload).collect();
        if cold.is_empty() {
            return;
        }
        let switchboard = &self.scene.switchboard;
        let table = switchboard.table();
        let entries = table.entries.iter().chain(&newcomers).cloned().collect();
        switchboard.replace(table.edge.clone(), table.routes.clone(), entries).await;
        warm_up(switchboard, cold, &self.notifier, std::future::pending()).await;
    }

    /// Gives every service that begins its desk and its tasks.
    fn seat(&self, services: Vec<Fate>) {
        let scene = &self.scene;
        let known = scene.desks.load_full();
        let desks = services.into_iter().filter_map(|fate| match fate {
            Fate::Begins(draft) => {
                let Scene { switchboard, journal, listeners, told, stage, .. } = &*self.scene;
                let (desk, mut tasks) = draft.seat(switchboard, journal, listeners, told, stage.subscribe());
                tasks.check();
                tasks.drive();
                Some(desk)
            }
            Fate::Stays(service) | Fate::Changes(service, _) => {
                known.iter().find(|desk| *desk.name() == service.name).cloned()
            }
        });
        scene.desks.store(Arc::new(desks.collect()));
    }

    async fn change_listeners(&self, to: &Running, opened: Vec<Opened>) {
        let before = self.scene.listeners.load_full();
        let (mut after, mut others) = (Vec::new(), Vec::new());
        for listener in before.iter().cloned() {
            let stays = !listener.is_shut() && to.config.listeners.iter().any(|it| it.address == listener.address);
            if stays { after.push(listener) } else { others.push(listener) }
        }
        for (listener, sockets) in opened {
            tracing::info!(tls = listener.is_tls(), "listening on {}", listener.address);
            self.doors.open(&listener, sockets).await;
            after.push(listener);
        }
        for listener in others.iter().filter(|listener| !listener.is_shut()) {
            tracing::info!(connections = listener.open(), "no longer listening on {}", listener.address);
            self.doors.shut(listener).await;
        }
        let place = |address| to.config.listeners.iter().position(|listener| listener.address == address);
        after.sort_by_key(|listener| place(listener.address));
        after.extend(others);
        self.scene.listeners.store(Arc::new(after));
    }
}
