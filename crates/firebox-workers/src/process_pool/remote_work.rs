//! Values that can be sent to another process, and work that can run there.

use std::any::type_name;
use std::fmt::Debug;
use std::mem::needs_drop;
use std::ptr::NonNull;

use serde_core::Serialize;
use serde_core::de::DeserializeOwned;

#[cfg(target_os = "linux")]
use crate::process::wire;
use crate::task::work::Work;

/// Values that can be sent to another process of the same program: those that serde can write and read.
///
/// Everything that is `Serialize`, `DeserializeOwned` and `Send` crosses; what reads itself in a way that
/// depends on the data, as untagged and flattened enums do, is an error when it arrives.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "a task of a pool of processes, or its result, has to be data",
    note = "it has to be `serde::Serialize`, `serde::Deserialize` without a borrowed part, `Send`, and `'static`",
    note = "`Pool::threads` takes tasks of any type"
)]
pub trait Crosses: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Crosses for T {}

/// Work that can run in another process of the same program.
///
/// Functions are such, and closures that capture nothing. Work with settings becomes such by
/// [`remote_work!`](crate::remote_work). Nobody implements it otherwise.
///
/// # A closure that captures is no such work
///
/// What it captures is in this process. The compiler says so, and what to do instead:
///
/// ```compile_fail
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// firebox_workers::init();
/// let pool = Pool::processes(1).unwrap();
/// let by = 3;
/// pool.map(move |x: u64| x * by, 0..10).unwrap();
/// ```
///
/// Make what it needs a part of the task, or a setting:
///
/// ```
/// use firebox_workers::{Pool, WorkersExt as _};
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = Pool::processes(1)?;
///     let by = 3;
///     assert_eq!(pool.map(|(x, by): (u64, u64)| x * by, (0..3).map(|x| (x, by)))?, [0, 3, 6]);
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run in another process",
    label = "neither a function, nor registered work",
    note = "a closure that captures variables is of this process: make them a part of the task, or settings of a type \
            that implements `Work` and is registered by `firebox_workers::remote_work!`",
    note = "`Pool::threads` runs closures of any kind"
)]
pub trait RemoteWork<T>: Work<T> + Sized {
    /// The settings as bytes; `None` if there are none.
    #[doc(hidden)]
    fn settings(&self) -> Result<Option<Vec<u8>>, String>;

    /// The work with these settings.
    #[doc(hidden)]
    fn from_settings(settings: &[u8]) -> Result<Self, String>;

    /// The settings as text of several lines.
    #[doc(hidden)]
    fn described(&self) -> String;
}

#[diagnostic::do_not_recommend]
impl<T, R, F> RemoteWork<T> for F
where
    F: Fn(T) -> R + Copy + Send + Sync + 'static,
    R: Send + 'static,
{
    fn settings(&self) -> Result<Option<Vec<u8>>, String> {
        // Evaluated when this is compiled for `F`.
        const { assert_captures_nothing::<F>() };
        Ok(None)
    }

    fn from_settings(_: &[u8]) -> Result<Self, String> {
        Ok(from_nothing())
    }

    fn described(&self) -> String {
        type_name::<F>().to_owned()
    }
}

const fn assert_captures_nothing<F>() {
    assert!(
        size_of::<F>() == 0 && !needs_drop::<F>(),
        "a closure that captures variables cannot run in another process, which does not have them: make them a part of \
         the task, or settings of a type that implements `Work` and is registered by `firebox_workers::remote_work!`; \
         `Pool::threads` runs closures of any kind"
    );
}

/// A function, or a closure that captures nothing, of no bytes.
#[allow(unsafe_code, reason = "there is no other way from a function's type to the function")]
fn from_nothing<F: Copy>() -> F {
    const { assert_captures_nothing::<F>() };
    // SAFETY: reading no bytes is valid at any aligned address. The value is one that may be there: `F` is a
    // function or a closure that captures nothing but values of no bytes, of which one was made by the
    // program that sent us here, which is this program; it is `Copy`, so that a second one beside it is
    // nothing that its type forbids.
    unsafe { NonNull::<F>::dangling().as_ptr().read() }
}

/// Registers a type of work with settings, so that it can run in another process.
///
/// The type is `Serialize`, `DeserializeOwned` and `Debug`, and implements [`Work`]. A worker makes it of its
/// settings once, when the first task for it comes. When a stream begins, its settings are written, read and
/// compared: a field that does not come back as it was is an error that names it.
///
/// ```
/// use firebox_workers::{Pool, Work, Worker, WorkersExt as _, remote_work};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Scale {
///     by: f32,
/// }
///
/// impl Work<f32> for Scale {
///     type Output = f32;
///
///     fn run(&self, x: f32, _: Worker<'_>) -> f32 {
///         x * self.by
///     }
/// }
///
/// remote_work!(Scale);
///
/// fn main() -> Result<(), firebox_workers::Error> {
///     firebox_workers::init();
///     let pool = Pool::processes(1)?;
///     assert_eq!(pool.map(Scale { by: 2.0 }, [1.0, 1.5])?, [2.0, 3.0]);
///     Ok(())
/// }
/// ```
///
/// A type with parameters has them in brackets before it:
/// `remote_work!([S: Send + Sync + 'static] Scaled<S>)`.
#[macro_export]
macro_rules! remote_work {
    ([$($parameters:tt)*] $work:ty) => {
        impl<FireboxTask, $($parameters)*> $crate::RemoteWork<FireboxTask> for $work
        where
            $work: $crate::Work<FireboxTask>,
        {
            fn settings(
                &self,
            ) -> ::core::result::Result<::core::option::Option<$crate::__private::Bytes>, $crate::__private::Text> {
                $crate::__private::write_settings(self).map(::core::option::Option::Some)
            }

            fn from_settings(settings: &[u8]) -> ::core::result::Result<Self, $crate::__private::Text> {
                $crate::__private::read_settings(settings)
            }

            fn described(&self) -> $crate::__private::Text {
                $crate::__private::described(self)
            }
        }
    };
    ($work:ty) => {
        $crate::remote_work!([] $work);
    };
}

/// The settings of registered work, as bytes.
///
/// # Errors
/// The message of the type's `Serialize`.
#[doc(hidden)]
pub fn write_settings<W: Serialize>(work: &W) -> Result<Vec<u8>, String> {
    #[cfg(target_os = "linux")]
    return wire::to_vec(work).map_err(|error| error.to_string());
    #[cfg(not(target_os = "linux"))]
    return Err(format!("no process to send {} to", std::any::type_name_of_val(work)));
}

/// Registered work with these settings.
///
/// # Errors
/// The message of the type's `Deserialize`.
#[doc(hidden)]
pub fn read_settings<W: DeserializeOwned>(settings: &[u8]) -> Result<W, String> {
    #[cfg(target_os = "linux")]
    return wire::from_slice(settings).map_err(|error| error.to_string());
    #[cfg(not(target_os = "linux"))]
    return Err(format!("no process to get {} bytes of settings from", settings.len()));
}

/// The settings of registered work, as text of several lines.
#[doc(hidden)]
pub fn described<W: Debug>(work: &W) -> String {
    format!("{work:#?}")
}
