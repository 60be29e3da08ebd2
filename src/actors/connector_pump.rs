//! The pump of a connector: starts it, asks how the work is to be split, and waits for what it or the user says next.
//!
//! A connector that is paused or stopped by its target state is not kept: it is stopped, and a fresh one is made when it is
//! started again (Java keeps the value, which is why its connectors have to survive a second `start`).

use std::sync::Arc;

use connect_api::connector::ConnectorRuntime;
use connect_api::{ConnectError, Connector, ConnectorContext, OffsetStorageReader, Props};
use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc};

use super::prepared::{Channels, Prepared};
use super::pump::PumpEnd;
use super::supervision;
use crate::pipeline::{Control, Directive, Failure, Phase, Report};
use crate::plugins::{Plugin, PluginKind, Registry};

/// Errors that a connector may raise before the first is looked at; the first one fails it.
const RAISED_ERRORS: usize = 1;

struct ConnectorPump {
    plugin: Plugin,
    props: Props,
    tasks_max: usize,
    context: ConnectorContext,
    reconfigure: Arc<Notify>,
    raised: mpsc::Receiver<ConnectError>,
    control: Control,
}

/// What the connector may ask of us.
struct Runtime {
    reconfigure: Arc<Notify>,
    raised: mpsc::Sender<ConnectError>,
    offsets: Arc<dyn OffsetStorageReader>,
}

impl ConnectorRuntime for Runtime {
    fn request_task_reconfiguration(&self) {
        self.reconfigure.notify_one();
    }

    fn raise_error(&self, error: ConnectError) {
        // Full: it is failing already. Closed: it is over.
        let _ = self.raised.try_send(error);
    }

    fn offset_storage_reader(&self) -> Arc<dyn OffsetStorageReader> {
        self.offsets.clone()
    }
}

/// Makes a fresh connector.
pub fn make(plugin: &Plugin) -> Result<Box<dyn Connector>, Failure> {
    let made = supervision::catch(|| match plugin.kind {
        PluginKind::Source(connector, _) => Some(connector() as Box<dyn Connector>),
        PluginKind::Sink(connector, _) => Some(connector() as Box<dyn Connector>),
        _ => None,
    });
    let made = made.map_err(|panic| panic.into_failure(Phase::Configure))?;
    made.ok_or_else(|| Failure::text(Phase::Configure, format!("{} is no connector", plugin.class)))
}

/// Everything up to the first callback.
pub fn prepare(
    props: Props,
    tasks_max: usize,
    registry: &Registry,
    offsets: Arc<dyn OffsetStorageReader>,
    control: Control,
) -> Result<Prepared, Failure> {
    let class = props.get("connector.class").map(String::as_str).unwrap_or_default();
    let found = registry.find(class);
    let plugin = *found.map_err(|error| Failure::text(Phase::Configure, error.to_string()))?;
    let blocking = make(&plugin)?.blocking();
    let reconfigure = Arc::new(Notify::new());
    let (sender, raised) = mpsc::channel(RAISED_ERRORS);
    let runtime = Runtime { reconfigure: reconfigure.clone(), raised: sender, offsets };
    let pump = ConnectorPump {
        plugin,
        props,
        tasks_max,
        context: ConnectorContext::new(Arc::new(runtime)),
        reconfigure: reconfigure.clone(),
        raised,
        control,
    };
    Ok(Prepared {
        blocking,
        run: Box::pin(pump.run()),
        channels: Channels::Connector(reconfigure),
        commit: None,
        registration: None,
    })
}

impl ConnectorPump {
    async fn run(mut self) -> PumpEnd {
        loop {
            let directive = self.control.directive();
            match directive {
                Directive::Stop { .. } => return Ok(()),
                Directive::Run => {
                    self.life().await?;
                    // What is wanted may have changed back while the connector stopped.
                    continue;
                }
                Directive::Pause => self.control.report(Report::Paused),
                Directive::Halt => self.control.report(Report::Halted),
                Directive::Suspend => {}
            }
            if self.control.directive() == directive {
                self.control.changed_from(directive).await;
            }
        }
    }

    /// One life of a connector: from `start` to `stop`.
    async fn life(&mut self) -> PumpEnd {
        let mut connector = make(&self.plugin)?;
        let outcome = self.live(&mut *connector).await;
        self.control.phase.enter(Phase::Stop);
        let stopped = connector.stop().await;
        self.control.phase.enter(Phase::Idle);
        if let Err(error) = stopped {
            tracing::warn!(%error, "stop failed");
        }
        outcome
    }

    async fn live(&mut self, connector: &mut dyn Connector) -> PumpEnd {
        self.control.phase.enter(Phase::Start);
        let started = connector.start(self.context.clone(), self.props.clone()).await;
        started.map_err(|error| Failure::new(Phase::Start, &error))?;
        self.control.report(Report::Running);
        // Whoever has asked by now is answered by what is said next.
        let _ = self.reconfigure.notified().now_or_never();
        self.split(connector).await?;
        loop {
            self.control.phase.enter(Phase::Idle);
            tokio::select! {
                _ = self.reconfigure.notified() => {
                    self.wait_out_suspension().await;
                    if self.control.directive() != Directive::Run {
                        // The next life answers. To wait for a change here could miss one, and the question would be lost.
                        return Ok(());
                    }
                    self.split(connector).await?;
                }
                error = self.raised.recv() => if let Some(error) = error {
                    return Err(Failure::new(Phase::Idle, &error));
                },
                _ = self.control.idle_changed_from(Directive::Run) => match self.control.directive() {
                    // A lease that comes and goes tears nothing down.
                    Directive::Run | Directive::Suspend => self.wait_out_suspension().await,
                    _ => return Ok(()),
                },
            }
        }
    }

    async fn wait_out_suspension(&mut self) {
        while self.control.directive() == Directive::Suspend {
            self.control.changed_from(Directive::Suspend).await;
        }
    }

    async fn split(&mut self, connector: &mut dyn Connector) -> PumpEnd {
        self.control.phase.enter(Phase::TaskConfigs);
        let configs = connector.task_configs(self.tasks_max).await;
        let configs = configs.map_err(|error| Failure::new(Phase::TaskConfigs, &error))?;
        if configs.len() > self.tasks_max {
            let (made, allowed) = (configs.len(), self.tasks_max);
            let message = format!("the connector made {made} task configurations, more than tasks.max = {allowed}");
            return Err(Failure::text(Phase::TaskConfigs, message));
        }
        self.control.report_task_configs(configs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use connect_api::{SourceOffset, SourcePartition};
    use tokio::sync::watch;

    use super::*;

    /// Paused time: it passes when nothing else can happen.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct NoOffsets;

    #[async_trait]
    impl OffsetStorageReader for NoOffsets {
        async fn offsets(&self, partitions: &[SourcePartition]) -> connect_api::Result<Vec<Option<SourceOffset>>> {
            Ok(vec![None; partitions.len()])
        }
    }

    struct Rig {
        directive: watch::Sender<Directive>,
        channels: Channels,
        reports: mpsc::UnboundedReceiver<Report>,
    }

    impl Rig {
        /// A file source that begins like this.
        fn new(directive: Directive) -> (Rig, impl Future<Output = PumpEnd>) {
            let (directive, control) = watch::channel(directive);
            let (said, reports) = mpsc::unbounded_channel();
            let lease = Box::new(|| Duration::from_secs(3600));
            let control = Control::new(control, Arc::default(), lease, Box::new(move |report| drop(said.send(report))));
            let props = [("connector.class", "FileStreamSource"), ("topic", "t"), ("file", "/nothing")];
            let props = props.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let prepared = prepare(props, 1, &Registry::built_in(), Arc::new(NoOffsets), control).unwrap();
            (Rig { directive, channels: prepared.channels, reports }, prepared.run)
        }

        /// How often task configurations are said until nothing happens any more.
        async fn said(&mut self) -> usize {
            let mut said = 0;
            while let Ok(Some(report)) = tokio::time::timeout(PATIENCE, self.reports.recv()).await {
                said += usize::from(matches!(report, Report::TaskConfigs(_)));
            }
            said
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_whatever_else_changes() {
        let (mut rig, pump) = Rig::new(Directive::Run);
        let pump = tokio::spawn(pump);
        assert_eq!(rig.said().await, 1);
        rig.channels.reconfigure();
        assert_eq!(rig.said().await, 1);
        // Each time the pump sees the last directive only.
        for between in [Directive::Suspend, Directive::Pause, Directive::Halt] {
            rig.directive.send_replace(between);
            rig.directive.send_replace(Directive::Run);
            rig.channels.reconfigure();
            assert_eq!(rig.said().await, 1, "{between:?}");
        }
        for between in [Directive::Suspend, Directive::Pause, Directive::Halt] {
            rig.directive.send_replace(between);
            rig.channels.reconfigure();
            assert_eq!(rig.said().await, 0, "{between:?}");
            rig.directive.send_replace(Directive::Run);
            assert_eq!(rig.said().await, 1, "{between:?}");
        }
        rig.directive.send_replace(Directive::Stop { deadline: tokio::time::Instant::now(), commit: true });
        assert!(pump.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_a_start_is_answered_by_what_the_start_says() {
        let (mut rig, pump) = Rig::new(Directive::Halt);
        let _pump = tokio::spawn(pump);
        assert_eq!(rig.said().await, 0);
        rig.directive.send_replace(Directive::Run);
        rig.channels.reconfigure();
        assert_eq!(rig.said().await, 1);
    }
}
