//! Work: the code that runs tasks, apart from the tasks themselves.

use std::fmt;

/// The worker that runs a task, as the task sees it.
#[derive(Clone, Copy)]
pub struct Worker<'t> {
    id: Option<usize>,
    /// Begins the task's time limit anew, and tells whether anybody waits for it.
    progress: Option<&'t (dyn Fn() -> bool + Sync)>,
    /// Notes that a part of the task is begun, and whether it runs alone.
    begin: Option<&'t (dyn Fn(usize, bool) + Sync)>,
}

impl Worker<'static> {
    /// The thread that called the pool: a pool without workers runs its tasks there.
    pub const CALLER: Worker<'static> = Worker { id: None, progress: None, begin: None };
}

impl<'t> Worker<'t> {
    /// The worker `id`, and what it does to [tell of progress](Self::progress): for implementors of
    /// [`Workers`](crate::Workers) that run tasks without a [`Job`](crate::task::Job).
    pub fn new(id: usize, progress: &'t (dyn Fn() -> bool + Sync)) -> Self {
        Worker { id: Some(id), progress: Some(progress), begin: None }
    }

    /// The same worker, which notes what its task [begins](Self::begin) by this function: it gets the part,
    /// and whether that runs alone.
    pub fn with_begin(self, begin: &'t (dyn Fn(usize, bool) + Sync)) -> Self {
        Worker { begin: Some(begin), ..self }
    }

    /// Which of the pool's workers this is, from 0, or `None` for the thread that called the pool.
    pub fn id(self) -> Option<usize> {
        self.id
    }

    /// Says that the task gets on: its [time limit](crate::Pool::with_timeout) begins anew. `false` if nobody
    /// waits for its result any more, so that it may as well stop.
    pub fn progress(self) -> bool {
        self.progress.is_none_or(|progress| progress())
    }

    /// Says that the task begins a part of itself, counted from 0, so that this part is blamed if the worker
    /// dies. It is [progress](Self::progress), too.
    ///
    /// Workers in other processes listen, for others it is nothing. A task whose worker has died with the
    /// same part begun twice is answered with [`ErrorKind::Died`](crate::ErrorKind::Died), which names the
    /// part, and whoever has the task can run that part apart.
    pub fn begin(self, part: usize) {
        self.note(part, false);
    }

    /// [`begin`](Self::begin) for a part that is run apart, because workers have died with it: the next death
    /// is its last.
    pub fn begin_alone(self, part: usize) {
        self.note(part, true);
    }

    fn note(self, part: usize, alone: bool) {
        if let Some(begin) = self.begin {
            begin(part, alone);
        }
    }
}

impl fmt::Debug for Worker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The execution of tasks of type `T`.
///
/// Every `Fn(T) -> R` is one. Implement the trait on a type of your own where the work needs to know
/// its worker, or where it carries state that all workers share. The task is a plain value: make it
/// serialisable and the same work can be done by another process.
///
/// ```
/// use firebox_workers::{Pool, Work, Worker, WorkersExt as _};
///
/// /// Lines of text, counted in steps, between which a time limit begins anew.
/// struct CountLines;
///
/// impl Work<Vec<String>> for CountLines {
///     type Output = usize;
///
///     fn run(&self, texts: Vec<String>, worker: Worker<'_>) -> usize {
///         texts.iter().take_while(|_| worker.progress()).map(|text| text.lines().count()).sum()
///     }
/// }
///
/// let pool = Pool::threads(1)?;
/// let lines = pool.map(CountLines, [vec!["fire\nbox".to_owned(), "crate".to_owned()]])?;
/// assert_eq!(lines, [3]);
/// # Ok::<(), firebox_workers::Error>(())
/// ```
pub trait Work<T>: Send + Sync + 'static {
    /// The result of a task.
    type Output: Send + 'static;

    /// Runs one task. A panic in here reaches the caller as an [`Error`](crate::Error).
    fn run(&self, task: T, worker: Worker<'_>) -> Self::Output;
}

impl<T, R, F> Work<T> for F
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Output = R;

    fn run(&self, task: T, _: Worker<'_>) -> R {
        self(task)
    }
}
