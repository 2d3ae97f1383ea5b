//! The rare call: every noun that is not on a hot path, by the name of its calls. See the core's `host::call`.

use crate::{convert, errors::OrRaise};
use bytes::Bytes;
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;
use nats_eventbus::{
    duration::Unit,
    host::{Handle as Inner, Reply, Started},
};

/// A noun of the core.
#[napi]
pub struct Handle(Inner);

impl Handle {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(inner)
    }
}

/// What a call gives; only what applies is there.
#[napi(object, object_from_js = false)]
pub struct Answer {
    /// The value, or the fields of the noun, as JSON.
    pub json: Option<String>,
    /// A noun with calls of its own.
    pub handle: Option<Handle>,
    /// The bytes that belong to it.
    pub body: Option<Buffer>,
}

impl From<Reply> for Answer {
    fn from(mut reply: Reply) -> Self {
        reply.accept();
        Self {
            json: reply.json.take(),
            handle: reply.handle.take().map(Handle),
            body: reply.body.take().map(|b| Vec::from(b).into()),
        }
    }
}

#[napi]
impl Handle {
    /// Makes a call with arguments as JSON, and the one that is bytes: its result, or a promise of it.
    #[napi(catch_unwind, ts_return_type = "Answer | Promise<Answer>")]
    pub fn call<'env>(
        &self,
        env: &'env Env,
        name: String,
        arguments: Option<String>,
        body: Option<&[u8]>,
    ) -> Result<Either<Answer, Object<'env>>> {
        let given = convert::object(arguments.as_deref())?;
        match self.0.call(&name, given, body.map(Bytes::copy_from_slice), Unit::Milliseconds).or_raise()? {
            Started::Done(reply) => Ok(Either::A(reply.into())),
            Started::Later(work) => {
                Ok(Either::B(convert::promise(env, async move { Ok(Answer::from(work.await?)) })?))
            }
        }
    }
}
