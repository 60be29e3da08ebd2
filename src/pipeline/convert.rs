//! Between records with data and records with bytes: transformations and converters of one task.

use bytestring::ByteString;
use connect_api::{
    Converter, Header, HeaderConverter, Record, SchemaAndValue, SinkRecord, SourceRecord, TopicPartition,
};

use super::delivery::Outgoing;
use super::phase::{Failure, Phase};
use super::transform_chain::TransformChain;
use crate::backend::{ConsumerRecord, ProducerRecord};

/// The converters of one task.
pub struct Converters {
    /// Of keys.
    pub key: Box<dyn Converter>,
    /// Of values.
    pub value: Box<dyn Converter>,
    /// Of header values.
    pub header: Box<dyn HeaderConverter>,
}

/// Transformations first, then converters.
pub struct SourceConverter {
    chain: TransformChain,
    converters: Converters,
}

impl SourceConverter {
    /// Configured transformations and converters.
    pub fn new(chain: TransformChain, converters: Converters) -> Self {
        SourceConverter { chain, converters }
    }

    /// Whether there are transformations.
    pub fn transforms(&self) -> bool {
        !self.chain.is_empty()
    }

    /// The transformed record, or `None` where it was dropped.
    pub fn transform(&mut self, source: SourceRecord) -> Result<Option<SourceRecord>, Failure> {
        let SourceRecord { source_partition, source_offset, record } = source;
        let record = transform(&mut self.chain, record)?;
        Ok(record.map(|record| SourceRecord { source_partition, source_offset, record }))
    }

    /// The record as bytes.
    pub fn encode(&mut self, source: SourceRecord) -> Result<Outgoing, Failure> {
        let SourceRecord { source_partition, source_offset, record } = source;
        let Converters { key, value, header } = &mut self.converters;
        let topic = &record.topic;
        let mut headers = Vec::with_capacity(record.headers.len());
        for Header { key, value } in &record.headers {
            let bytes =
                header.from_connect_header(topic, key, value).map_err(|error| failed("header", &record, error))?;
            headers.push((key.clone(), bytes));
        }
        let bytes = |converter: &mut dyn Converter, what, data: &SchemaAndValue| {
            let schema = data.schema.as_deref();
            let bytes = converter.from_connect_data(topic, &record.headers, schema, &data.value);
            bytes.map_err(|error| failed(what, &record, error))
        };
        let key = bytes(&mut **key, "key", &record.key)?;
        let value = bytes(&mut **value, "value", &record.value)?;
        let record = ProducerRecord {
            topic: record.topic,
            partition: record.kafka_partition,
            key,
            value,
            headers,
            timestamp: record.timestamp,
        };
        Ok(Outgoing { record, source_partition, source_offset })
    }
}

/// Converters first, then transformations.
pub struct SinkConverter {
    chain: TransformChain,
    converters: Converters,
}

impl SinkConverter {
    /// Configured transformations and converters.
    pub fn new(chain: TransformChain, converters: Converters) -> Self {
        SinkConverter { chain, converters }
    }

    /// Whether there are transformations.
    pub fn transforms(&self) -> bool {
        !self.chain.is_empty()
    }

    /// The record with data. `topic` is the text of `origin.topic`, made once per batch.
    pub fn decode(
        &mut self,
        record: ConsumerRecord,
        origin: &TopicPartition,
        topic: &ByteString,
    ) -> Result<SinkRecord, Failure> {
        let Converters { key, value, header } = &mut self.converters;
        let failed = |what: &str, error| {
            let place = format!("the {what} of {origin} at offset {}", record.offset);
            with_place(Phase::Convert, &place, error)
        };
        let data = |converter: &mut dyn Converter, bytes| converter.to_connect_data(topic, &record.headers, bytes);
        let key = data(&mut **key, record.key.as_ref()).map_err(|error| failed("key", error))?;
        let value = data(&mut **value, record.value.as_ref()).map_err(|error| failed("value", error))?;
        let mut headers = Vec::with_capacity(record.headers.len());
        for (name, bytes) in &record.headers {
            let data =
                header.to_connect_header(topic, name, bytes.as_ref()).map_err(|error| failed("header", error))?;
            headers.push(Header { key: name.clone(), value: data });
        }
        Ok(SinkRecord {
            timestamp_type: record.timestamp_type,
            original: origin.clone(),
            original_offset: record.offset,
            record: Record {
                topic: topic.clone(),
                kafka_partition: Some(origin.partition),
                kafka_offset: Some(record.offset),
                key,
                value,
                timestamp: (record.timestamp >= 0).then_some(record.timestamp),
                headers,
            },
        })
    }

    /// The transformed record, or `None` where it was dropped.
    pub fn transform(&mut self, sink: SinkRecord) -> Result<Option<SinkRecord>, Failure> {
        let SinkRecord { record, timestamp_type, original, original_offset } = sink;
        let record = transform(&mut self.chain, record)?;
        Ok(record.map(|record| SinkRecord { record, timestamp_type, original, original_offset }))
    }
}

fn transform(chain: &mut TransformChain, record: Record) -> Result<Option<Record>, Failure> {
    chain.apply(record).map_err(|error| Failure::new(Phase::Transform, &error))
}

fn failed(what: &str, record: &Record, error: connect_api::ConnectError) -> Failure {
    with_place(Phase::Convert, &format!("the {what} of a record for topic {}", record.topic), error)
}

fn with_place(phase: Phase, place: &str, error: connect_api::ConnectError) -> Failure {
    let mut failure = Failure::new(phase, &error);
    failure.message = format!("{place}: {}", failure.message);
    failure
}
