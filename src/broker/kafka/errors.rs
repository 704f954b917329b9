//! What can be done about each of librdkafka's error codes: one table.
//!
//! The flags that librdkafka sets on an error (fatal, requires abort, retriable) go before the table, because they know
//! the state of the client. Codes that no table names are worth another try: a broker newer than this list must not
//! stop a link.

use rdkafka::types::RDKafkaErrorCode as Code;

use super::raw::Failed;
use crate::broker::{Class, Error};

/// The class of a code by itself.
pub fn class_of(code: Code) -> Class {
    match code {
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::DelegationTokenAuthDisabled
        | Code::DelegationTokenNotFound
        | Code::DelegationTokenOwnerMismatch
        | Code::DelegationTokenRequestNotAllowed
        | Code::DelegationTokenAuthorizationFailed
        | Code::DelegationTokenExpired
        | Code::UnacceptableCredential => Class::Denied,

        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId => {
            Class::Missing
        }

        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::OffsetOutOfRange
        | Code::AutoOffsetReset
        | Code::OffsetMetadataTooLarge => Class::Rejected,

        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::State
        | Code::Inconsistent
        | Code::AssignmentLost
        | Code::GaplessGuarantee
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping => Class::Abort,

        Code::Fatal
        | Code::Fenced
        | Code::InvalidTransactionalState
        | Code::InvalidProducerEpoch
        | Code::ProducerFenced
        | Code::FencedInstanceId
        | Code::UnreleasedInstanceId
        | Code::FencedMemberEpoch => Class::Fenced,

        Code::InvalidArgument
        | Code::UnknownProtocol
        | Code::NotImplemented
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType
        | Code::InvalidTopic
        | Code::InvalidRequiredAcks
        | Code::InconsistentGroupProtocol
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::PolicyViolation
        | Code::SecurityDisabled
        | Code::Conflict
        | Code::NotConfigured => Class::Fatal,

        _ => Class::Retry,
    }
}

/// The error of a call.
pub fn error(context: impl Into<String>, failed: &Failed) -> Error {
    let class = if failed.fatal {
        Class::Fenced
    } else if failed.requires_abort {
        Class::Abort
    } else if failed.retriable {
        Class::Retry
    } else {
        class_of(failed.code)
    };
    Error::new(class, context, &failed.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classed_by_what_can_be_done() {
        for (code, class) in [
            (Code::BrokerTransportFailure, Class::Retry),
            (Code::AllBrokersDown, Class::Retry),
            (Code::OperationTimedOut, Class::Retry),
            (Code::NotEnoughReplicas, Class::Retry),
            (Code::UnstableOffsetCommit, Class::Retry),
            (Code::ConcurrentTransactions, Class::Retry),
            (Code::CoordinatorLoadInProgress, Class::Retry),
            (Code::Authentication, Class::Denied),
            (Code::TopicAuthorizationFailed, Class::Denied),
            (Code::TransactionalIdAuthorizationFailed, Class::Denied),
            (Code::UnknownTopicOrPartition, Class::Missing),
            (Code::UnknownPartition, Class::Missing),
            (Code::MessageSizeTooLarge, Class::Rejected),
            (Code::InvalidTimestamp, Class::Rejected),
            (Code::AutoOffsetReset, Class::Rejected),
            (Code::IllegalGeneration, Class::Abort),
            (Code::UnknownMemberId, Class::Abort),
            (Code::State, Class::Abort),
            (Code::Inconsistent, Class::Abort),
            (Code::Fenced, Class::Fenced),
            (Code::InvalidTransactionalState, Class::Fenced),
            (Code::FencedInstanceId, Class::Fenced),
            (Code::InvalidReplicationFactor, Class::Fatal),
            (Code::UnsupportedVersion, Class::Fatal),
        ] {
            assert_eq!(class_of(code), class, "{code:?}");
        }
    }

    #[test]
    fn what_librdkafka_knows_of_its_state_goes_before_the_table() {
        let failed = Failed::of(Code::BrokerTransportFailure);
        assert_eq!(error("x", &failed).class, Class::Retry);
        assert_eq!(error("x", &Failed { requires_abort: true, ..failed.clone() }).class, Class::Abort);
        assert_eq!(error("x", &Failed { fatal: true, requires_abort: true, ..failed }).class, Class::Fenced);
        let retriable = Failed { retriable: true, ..Failed::of(Code::UnknownMemberId) };
        assert_eq!(error("x", &retriable).class, Class::Retry);
    }
}
