//! Keeps answers of the store out of the log.

use aws_sdk_s3::config::interceptors::BeforeSerializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::SensitiveOutput;

/// Marks the answers to all requests as sensitive. At trace level the SDK logs answers otherwise, and Amazon S3
/// repeats the session token in its answer to a wrong signature.
#[derive(Debug)]
pub(super) struct QuietAnswers;

impl Intercept for QuietAnswers {
    fn name(&self) -> &'static str {
        "QuietAnswers"
    }

    fn read_before_execution(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SensitiveOutput);
        Ok(())
    }
}
