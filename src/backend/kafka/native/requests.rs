//! Admin requests: each has a queue of its own, whose one answer is awaited without blocking a thread.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use connect_api::TopicPartition;
use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_admin_op_t as Op;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;
use tokio::sync::Notify;

use super::client::{Client, Queue};
use super::errors::{check, error_of, error_of_read, take_error};
use super::partitions::{PartitionList, elements};
use super::{ERROR_TEXT_BYTES, c_string, copied, milliseconds, text_of};
use crate::backend::{BackendError, FoundTopic, GroupDescription, NewTopic, Result};

/// How much longer than its own time-out an answer is awaited; the client answers before.
const ANSWER_GRACE: Duration = Duration::from_secs(5);

/// The time-out of requests for a group's coordinator as the client knows it, the longest that it takes. When that passes while no
/// coordinator can be reached, librdkafka (up to 2.12.1 at least, issue 3663) frees the request and still answers it when the coordinator is
/// back, which ends the process by a failed assertion. So it must never pass: who waits gives up earlier, and the client is replaced.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(3600);

/// Options of a request.
struct Options(NonNull<rd::rd_kafka_AdminOptions_t>);

impl Options {
    fn new(client: &Client, op: Op, timeout: Duration) -> Result<Options> {
        // SAFETY: the client lives; the call only allocates.
        let options = NonNull::new(unsafe { rd::rd_kafka_AdminOptions_new(client.ptr(), op) })
            .ok_or_else(|| BackendError::Retriable("no memory for a request".into()))?;
        let options = Options(options);
        let mut text: [c_char; ERROR_TEXT_BYTES] = [0; ERROR_TEXT_BYTES];
        // The client takes up to an hour.
        let wait = milliseconds(timeout).clamp(1, 3_600_000);
        // SAFETY: the options live; the buffer is as long as said.
        let code = unsafe {
            rd::rd_kafka_AdminOptions_set_request_timeout(options.0.as_ptr(), wait, text.as_mut_ptr(), ERROR_TEXT_BYTES)
        };
        check(code, "setting the time-out of a request")?;
        Ok(options)
    }

    fn ptr(&self) -> *mut rd::rd_kafka_AdminOptions_t {
        self.0.as_ptr()
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: nobody else has them; requests copy them.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.ptr()) }
    }
}

/// The answer of a request.
struct Answer(NonNull<rd::rd_kafka_event_t>);

// SAFETY: an event belongs to who polled it.
unsafe impl Send for Answer {}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl Answer {
    fn ptr(&self) -> *mut rd::rd_kafka_event_t {
        self.0.as_ptr()
    }

    /// An error of the whole request; `false` for a code that is harmless.
    fn check(&self, harmless: Code, what: &str) -> Result<bool> {
        // SAFETY: the event lives; so does its text.
        let (code, text) =
            unsafe { (rd::rd_kafka_event_error(self.ptr()), copied(rd::rd_kafka_event_error_string(self.ptr()))) };
        code_of_result(code, harmless, what, &text)
    }
}

/// A request that was handed to the client.
struct Pending {
    queue: Queue,
    what: String,
    timeout: Duration,
    /// Set while the client would send it late: the client of a request for a coordinator that is not answered.
    unanswered: Option<Client>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(client) = &self.unanswered {
            client.set_stuck();
        }
    }
}

impl Pending {
    /// Lets `call` send a request whose answer comes to the queue that it gets.
    fn start(
        client: &Client,
        op: Op,
        what: String,
        timeout: Duration,
        call: impl FnOnce(&Options, *mut rd::rd_kafka_queue_t) -> Result<()>,
    ) -> Result<Pending> {
        client.serve();
        let queue = client.new_queue()?;
        let options = Options::new(client, op, timeout)?;
        call(&options, queue.ptr())?;
        Ok(Pending { queue, what, timeout: timeout + ANSWER_GRACE, unanswered: None })
    }

    /// As [`Pending::start`], for requests that go to the coordinator of a group.
    fn start_at_coordinator(
        client: &Client,
        op: Op,
        what: String,
        timeout: Duration,
        call: impl FnOnce(&Options, *mut rd::rd_kafka_queue_t) -> Result<()>,
    ) -> Result<Pending> {
        let mut pending = Pending::start(client, op, what, COORDINATOR_TIMEOUT, call)?;
        pending.timeout = timeout;
        pending.unanswered = Some(client.clone());
        Ok(pending)
    }

    async fn answer(self) -> Result<Answer> {
        let what = self.what.clone();
        let answer = self.answer_unless(Code::RD_KAFKA_RESP_ERR_NO_ERROR).await?;
        answer.ok_or_else(|| BackendError::Retriable(format!("{what}: no answer")))
    }

    /// The answer; `None` where the whole request ended with a harmless code.
    async fn answer_unless(mut self, harmless: Code) -> Result<Option<Answer>> {
        let notify = Arc::<Notify>::default();
        self.queue.enable_wake(&notify);
        let wait = async {
            loop {
                // SAFETY: the queue lives; the event is ours.
                if let Some(event) = NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.queue.ptr(), 0) }) {
                    return Answer(event);
                }
                notify.notified().await;
            }
        };
        let answer = tokio::time::timeout(self.timeout, wait).await;
        let answer = answer.map_err(|_| BackendError::Retriable(format!("{}: no answer in time", self.what)))?;
        self.unanswered = None;
        Ok(answer.check(harmless, &self.what)?.then_some(answer))
    }
}

/// Frees what a C function made, behind its use.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(made: *mut T, free: unsafe extern "C" fn(*mut T)) -> Result<Owned<T>> {
        let made = NonNull::new(made).ok_or_else(|| BackendError::Refused("the client refuses the request".into()))?;
        Ok(Owned(made, free))
    }

    fn ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `free` belongs to what made the pointer, and nobody else frees it.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// The elements of an array of pointers.
///
/// # Safety
/// `array` points to `count` pointers that live for `'a`.
unsafe fn array<'a, T>(array: *const *const T, count: usize) -> &'a [*const T] {
    if array.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(array, count) }
}

fn code_of_result(code: Code, known: Code, what: &str, detail: &str) -> Result<bool> {
    match code {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(true),
        code if code == known => Ok(false),
        code => Err(error_of(code, what, detail)),
    }
}

impl Client {
    /// Stable committed offsets: of these partitions, or of all that the group has. `Err` of an element is its code.
    pub(in crate::backend::kafka) async fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        timeout: Duration,
    ) -> Result<Vec<(TopicPartition, Result<i64>)>> {
        let what = format!("reading the offsets of group {group}");
        let op = Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let pending = Pending::start_at_coordinator(self, op, what.clone(), timeout, |options, queue| {
            let name = c_string("the name of a group", group)?;
            let list =
                partitions.map(|partitions| PartitionList::new(partitions.iter().map(|it| (it, 0)))).transpose()?;
            let list = list.as_ref().map_or(ptr::null_mut(), PartitionList::ptr);
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let error = rd::rd_kafka_AdminOptions_set_require_stable_offsets(options.ptr(), 1);
                if let Some(error) = take_error(error, "asking for stable offsets") {
                    return Err(error);
                }
                let request = rd::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), list);
                let request = Owned::new(request, rd::rd_kafka_ListConsumerGroupOffsets_destroy)?;
                rd::rd_kafka_ListConsumerGroupOffsets(self.ptr(), &mut request.ptr(), 1, options.ptr(), queue);
            }
            Ok(())
        })?;
        let answer = pending.answer().await?;
        // SAFETY: the answer lives, and with it all that it points to.
        let found = unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(answer.ptr());
            group_partitions(rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &mut count), count, &what)?
        };
        Ok(found)
    }

    /// Sets committed offsets of a group without members.
    pub(in crate::backend::kafka) async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
        timeout: Duration,
    ) -> Result<()> {
        let what = format!("committing offsets of group {group}");
        let op = Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
        let pending = Pending::start_at_coordinator(self, op, what.clone(), timeout, |options, queue| {
            let name = c_string("the name of a group", group)?;
            let list = PartitionList::new(offsets.iter().map(|(partition, offset)| (partition, *offset)))?;
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let request = rd::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.ptr());
                let request = Owned::new(request, rd::rd_kafka_AlterConsumerGroupOffsets_destroy)?;
                rd::rd_kafka_AlterConsumerGroupOffsets(self.ptr(), &mut request.ptr(), 1, options.ptr(), queue);
            }
            Ok(())
        })?;
        let answer = pending.answer().await?;
        // SAFETY: the answer lives, and with it all that it points to.
        let done = unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(answer.ptr());
            group_partitions(rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &mut count), count, &what)?
        };
        done.into_iter().try_for_each(|(_, offset)| offset.map(|_| ()))
    }

    /// Forgets committed offsets; a group that does not exist has none.
    pub(in crate::backend::kafka) async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<()> {
        let what = format!("deleting offsets of group {group}");
        let op = Op::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS;
        let pending = Pending::start_at_coordinator(self, op, what.clone(), timeout, |options, queue| {
            let name = c_string("the name of a group", group)?;
            let list = PartitionList::new(partitions.iter().map(|partition| (partition, 0)))?;
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let request = rd::rd_kafka_DeleteConsumerGroupOffsets_new(name.as_ptr(), list.ptr());
                let request = Owned::new(request, rd::rd_kafka_DeleteConsumerGroupOffsets_destroy)?;
                rd::rd_kafka_DeleteConsumerGroupOffsets(self.ptr(), &mut request.ptr(), 1, options.ptr(), queue);
            }
            Ok(())
        })?;
        let unknown = Code::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND;
        let Some(answer) = pending.answer_unless(unknown).await? else { return Ok(()) };
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_DeleteConsumerGroupOffsets_result(answer.ptr());
            let groups = rd::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &mut count);
            for group in array(groups.cast_const(), count) {
                let error = rd::rd_kafka_group_result_error(*group);
                if !error.is_null() {
                    let detail = copied(rd::rd_kafka_error_string(error));
                    if !code_of_result(rd::rd_kafka_error_code(error), unknown, &what, &detail)? {
                        return Ok(());
                    }
                }
            }
            let done = group_partitions(groups, count, &what)?;
            done.into_iter().try_for_each(|(_, offset)| offset.map(|_| ()))
        }
    }

    /// The id of the cluster.
    pub(in crate::backend::kafka) async fn describe_cluster(&self, timeout: Duration) -> Result<String> {
        let (op, what) = (Op::RD_KAFKA_ADMIN_OP_DESCRIBECLUSTER, "asking for the cluster's id");
        let pending = Pending::start(self, op, what.into(), timeout, |options, queue| {
            // SAFETY: client, options and queue live during the call.
            unsafe { rd::rd_kafka_DescribeCluster(self.ptr(), options.ptr(), queue) };
            Ok(())
        })?;
        let answer = pending.answer().await?;
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let result = rd::rd_kafka_event_DescribeCluster_result(answer.ptr());
            Ok(copied(rd::rd_kafka_DescribeCluster_result_cluster_id(result)))
        }
    }

    /// A topic; `None` where there is none of that name.
    pub(in crate::backend::kafka) async fn describe_topic(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<FoundTopic>> {
        let mut found = self.describe_topics(&[name.to_owned()], timeout).await?;
        Ok(found.remove(name))
    }

    /// Those of these topics that there are.
    pub(in crate::backend::kafka) async fn describe_topics(
        &self,
        names: &[String],
        timeout: Duration,
    ) -> Result<BTreeMap<String, FoundTopic>> {
        // The client refuses an empty list, and a name that is in it twice.
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let what = match names.first() {
            Some(name) if names.len() == 1 => format!("describing topic {name}"),
            _ => format!("describing {} topics", names.len()),
        };
        let names: Vec<CString> =
            names.into_iter().map(|name| c_string("the name of a topic", name)).collect::<Result<_>>()?;
        let op = Op::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let pending = Pending::start(self, op, what.clone(), timeout, |options, queue| {
            let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let topics = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
                let topics = Owned::new(topics, rd::rd_kafka_TopicCollection_destroy)?;
                rd::rd_kafka_DescribeTopics(self.ptr(), topics.ptr(), options.ptr(), queue);
            }
            Ok(())
        })?;
        let answer = pending.answer().await?;
        let mut found = BTreeMap::new();
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeTopics_result(answer.ptr());
            let topics = rd::rd_kafka_DescribeTopics_result_topics(result, &mut count).cast_const();
            for topic in array(topics, count) {
                let error = rd::rd_kafka_TopicDescription_error(*topic);
                if !error.is_null() {
                    let detail = copied(rd::rd_kafka_error_string(error));
                    let unknown = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
                    if !code_of_result(rd::rd_kafka_error_code(error), unknown, &what, &detail)? {
                        continue;
                    }
                }
                let mut partitions = 0;
                rd::rd_kafka_TopicDescription_partitions(*topic, &mut partitions);
                let id = id_of(rd::rd_kafka_TopicDescription_topic_id(*topic));
                let name = copied(rd::rd_kafka_TopicDescription_name(*topic));
                found.insert(name, FoundTopic { id, partitions: partitions as i32 });
            }
        }
        Ok(found)
    }

    /// The settings of a topic that have a value, with their defaults.
    pub(in crate::backend::kafka) async fn topic_settings(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<BTreeMap<String, String>> {
        let (op, what) = (Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, format!("reading the settings of topic {name}"));
        let pending = Pending::start(self, op, what.clone(), timeout, |options, queue| {
            let name = c_string("the name of a topic", name)?;
            let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let resource = rd::rd_kafka_ConfigResource_new(kind, name.as_ptr());
                let resource = Owned::new(resource, rd::rd_kafka_ConfigResource_destroy)?;
                rd::rd_kafka_DescribeConfigs(self.ptr(), &mut resource.ptr(), 1, options.ptr(), queue);
            }
            Ok(())
        })?;
        let answer = pending.answer().await?;
        let mut settings = BTreeMap::new();
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_DescribeConfigs_result(answer.ptr());
            let resources = rd::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
            for resource in array(resources.cast_const(), count) {
                let detail = copied(rd::rd_kafka_ConfigResource_error_string(*resource));
                let code = rd::rd_kafka_ConfigResource_error(*resource);
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return Err(error_of_read(code, &what, &detail));
                }
                let mut entries = 0;
                let configs = rd::rd_kafka_ConfigResource_configs(*resource, &mut entries);
                for entry in array(configs.cast_const(), entries) {
                    let value = rd::rd_kafka_ConfigEntry_value(*entry);
                    if !value.is_null() {
                        settings.insert(copied(rd::rd_kafka_ConfigEntry_name(*entry)), copied(value));
                    }
                }
            }
        }
        Ok(settings)
    }

    /// Sets one setting of a topic.
    pub(in crate::backend::kafka) async fn set_topic_setting(
        &self,
        name: &str,
        setting: &str,
        value: &str,
        timeout: Duration,
    ) -> Result<()> {
        let (op, what) =
            (Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, format!("setting {setting}={value} of topic {name}"));
        let pending = Pending::start(self, op, what.clone(), timeout, |options, queue| {
            let topic = c_string("the name of a topic", name)?;
            let (setting, value) = (c_string("a setting", setting)?, c_string("the value of a setting", value)?);
            let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let set = rd::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let resource = rd::rd_kafka_ConfigResource_new(kind, topic.as_ptr());
                let resource = Owned::new(resource, rd::rd_kafka_ConfigResource_destroy)?;
                let error = rd::rd_kafka_ConfigResource_add_incremental_config(
                    resource.ptr(),
                    setting.as_ptr(),
                    set,
                    value.as_ptr(),
                );
                if let Some(error) = take_error(error, &what) {
                    return Err(error);
                }
                rd::rd_kafka_IncrementalAlterConfigs(self.ptr(), &mut resource.ptr(), 1, options.ptr(), queue);
            }
            Ok(())
        })?;
        let answer = pending.answer().await?;
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_IncrementalAlterConfigs_result(answer.ptr());
            let resources = rd::rd_kafka_IncrementalAlterConfigs_result_resources(result, &mut count);
            for resource in array(resources.cast_const(), count) {
                let detail = copied(rd::rd_kafka_ConfigResource_error_string(*resource));
                let code = rd::rd_kafka_ConfigResource_error(*resource);
                code_of_result(code, Code::RD_KAFKA_RESP_ERR_NO_ERROR, &what, &detail)?;
            }
        }
        Ok(())
    }

    /// Creates a topic; `false` where it existed.
    pub(in crate::backend::kafka) async fn create_topic(&self, topic: &NewTopic, timeout: Duration) -> Result<bool> {
        let (op, what) = (Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, format!("creating topic {}", topic.name));
        let pending = Pending::start(self, op, what.clone(), timeout, |options, queue| {
            let native = new_topic(topic)?;
            // SAFETY: all that is passed lives during the call, which copies what it keeps.
            unsafe { rd::rd_kafka_CreateTopics(self.ptr(), &mut native.ptr(), 1, options.ptr(), queue) };
            Ok(())
        })?;
        let answer = pending.answer().await?;
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_CreateTopics_result(answer.ptr());
            let topics = rd::rd_kafka_CreateTopics_result_topics(result, &mut count);
            topic_result(topics, count, Code::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, &what)
        }
    }

    /// Deletes a topic; `false` where there was none.
    pub(in crate::backend::kafka) async fn delete_topic(&self, name: &str, timeout: Duration) -> Result<bool> {
        let (op, what) = (Op::RD_KAFKA_ADMIN_OP_DELETETOPICS, format!("deleting topic {name}"));
        let pending = Pending::start(self, op, what.clone(), timeout, |options, queue| {
            let name = c_string("the name of a topic", name)?;
            // SAFETY: all that is passed lives during the calls, which copy what they keep.
            unsafe {
                let topic = Owned::new(rd::rd_kafka_DeleteTopic_new(name.as_ptr()), rd::rd_kafka_DeleteTopic_destroy)?;
                rd::rd_kafka_DeleteTopics(self.ptr(), &mut topic.ptr(), 1, options.ptr(), queue);
            }
            Ok(())
        })?;
        let answer = pending.answer().await?;
        // SAFETY: the answer lives, and with it all that it points to.
        unsafe {
            let mut count = 0;
            let result = rd::rd_kafka_event_DeleteTopics_result(answer.ptr());
            let topics = rd::rd_kafka_DeleteTopics_result_topics(result, &mut count);
            topic_result(topics, count, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, &what)
        }
    }

    /// Partition counts of all topics. Blocks.
    pub(in crate::backend::kafka) fn list_topics_blocking(&self, timeout: Duration) -> Result<BTreeMap<String, i32>> {
        let mut metadata = ptr::null();
        // SAFETY: the client lives; the metadata are ours where the call succeeds, and freed behind their use.
        unsafe {
            let code = rd::rd_kafka_metadata(self.ptr(), 1, ptr::null_mut(), &mut metadata, milliseconds(timeout));
            check(code, "listing topics")?;
            let topics = (0..(*metadata).topic_cnt as usize).map(|at| &*(*metadata).topics.add(at));
            let good = topics.filter(|topic| topic.err == Code::RD_KAFKA_RESP_ERR_NO_ERROR);
            let counts = good.map(|topic| (copied(topic.topic), topic.partition_cnt)).collect();
            rd::rd_kafka_metadata_destroy(metadata);
            Ok(counts)
        }
    }

    /// Waits until a broker is connected and the addresses of all are known. Blocks.
    pub(in crate::backend::kafka) fn await_brokers_blocking(&self, timeout: Duration) -> Result<()> {
        let mut metadata = ptr::null();
        // SAFETY: the client lives; the metadata are ours where the call succeeds, and freed once.
        unsafe {
            let code = rd::rd_kafka_metadata(self.ptr(), 0, ptr::null_mut(), &mut metadata, milliseconds(timeout));
            check(code, "connecting")?;
            rd::rd_kafka_metadata_destroy(metadata);
        }
        Ok(())
    }

    /// A group of any protocol; `None` where there is none. Blocks.
    pub(in crate::backend::kafka) fn describe_group_blocking(
        &self,
        group: &str,
        timeout: Duration,
    ) -> Result<Option<GroupDescription>> {
        let name = c_string("the name of a group", group)?;
        let what = format!("describing group {group}");
        let mut list = ptr::null();
        // SAFETY: client and name live; the list is ours where the call makes one, and freed behind its use.
        unsafe {
            let code = rd::rd_kafka_list_groups(self.ptr(), name.as_ptr(), &mut list, milliseconds(timeout));
            let Some(groups) = NonNull::new(list.cast_mut()) else {
                check(code, &what)?;
                return Ok(None);
            };
            let groups = Owned(groups, destroy_group_list);
            let found = (0..(*groups.ptr()).group_cnt as usize)
                .map(|at| &*(*groups.ptr()).groups.add(at))
                .find(|info| CStr::from_ptr(info.group) == name.as_c_str());
            let Some(info) = found else {
                check(code, &what)?;
                return Ok(None);
            };
            check(info.err, &what)?;
            let (state, protocol_type) = (copied(info.state), copied(info.protocol_type));
            let exists = state != "Dead";
            Ok(exists.then_some(GroupDescription { state, protocol_type, members: info.member_cnt as usize }))
        }
    }
}

/// The number of an id; brokers before topic ids have none, which is 0.
///
/// # Safety
/// `id` is null or a living id.
unsafe fn id_of(id: *const rd::rd_kafka_Uuid_t) -> u128 {
    if id.is_null() {
        return 0;
    }
    // SAFETY: promised by the caller.
    let (high, low) =
        unsafe { (rd::rd_kafka_Uuid_most_significant_bits(id), rd::rd_kafka_Uuid_least_significant_bits(id)) };
    (high as u64 as u128) << 64 | low as u64 as u128
}

/// `rd_kafka_group_list_destroy` with the constness that [`Owned`] wants.
unsafe extern "C" fn destroy_group_list(list: *mut rd::rd_kafka_group_list) {
    // SAFETY: called by `Owned` alone, once.
    unsafe { rd::rd_kafka_group_list_destroy(list) }
}

fn new_topic(topic: &NewTopic) -> Result<Owned<rd::rd_kafka_NewTopic_t>> {
    let name: CString = c_string("the name of a topic", &topic.name)?;
    let mut text: [c_char; ERROR_TEXT_BYTES] = [0; ERROR_TEXT_BYTES];
    // SAFETY: the name lives and is copied; the buffer is as long as said.
    let native = unsafe {
        let replication = i32::from(topic.replication_factor);
        rd::rd_kafka_NewTopic_new(name.as_ptr(), topic.partitions, replication, text.as_mut_ptr(), ERROR_TEXT_BYTES)
    };
    if native.is_null() {
        return Err(BackendError::Refused(format!("creating topic {}: {}", topic.name, text_of(&text))));
    }
    let native = Owned::new(native, rd::rd_kafka_NewTopic_destroy)?;
    for (setting, value) in &topic.config {
        let (setting, value) = (c_string("a topic setting", setting)?, c_string("a topic setting", value)?);
        // SAFETY: the topic lives; both strings live and are copied.
        let code = unsafe { rd::rd_kafka_NewTopic_set_config(native.ptr(), setting.as_ptr(), value.as_ptr()) };
        check(code, &format!("creating topic {}", topic.name))?;
    }
    Ok(native)
}

/// The result for the one topic of a request: `false` for the harmless code.
///
/// # Safety
/// `topics` points to `count` living results.
unsafe fn topic_result(
    topics: *mut *const rd::rd_kafka_topic_result_t,
    count: usize,
    harmless: Code,
    what: &str,
) -> Result<bool> {
    // SAFETY: promised by the caller.
    unsafe {
        let Some(topic) = array(topics.cast_const(), count).first() else { return Ok(true) };
        let detail = copied(rd::rd_kafka_topic_result_error_string(*topic));
        code_of_result(rd::rd_kafka_topic_result_error(*topic), harmless, what, &detail)
    }
}

/// The partitions of the one group of a request, and its error.
///
/// # Safety
/// `groups` points to `count` living results.
unsafe fn group_partitions(
    groups: *mut *const rd::rd_kafka_group_result_t,
    count: usize,
    what: &str,
) -> Result<Vec<(TopicPartition, Result<i64>)>> {
    let mut found = Vec::new();
    // SAFETY: promised by the caller.
    unsafe {
        for group in array(groups.cast_const(), count) {
            let error = rd::rd_kafka_group_result_error(*group);
            if !error.is_null() {
                let detail = copied(rd::rd_kafka_error_string(error));
                return Err(error_of(rd::rd_kafka_error_code(error), what, &detail));
            }
            found.extend(elements(rd::rd_kafka_group_result_partitions(*group)).into_iter().map(
                |(partition, offset)| {
                    let offset = offset.map_err(|code| error_of(code, &format!("{what}: {partition}"), ""));
                    (partition, offset)
                },
            ));
        }
    }
    Ok(found)
}
