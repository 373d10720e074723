//! The part of Python's pickle format that a PyTorch file of weights needs.
//!
//! A pickle is a program for a stack machine. Nothing of it is run here: a call of a Python name either makes
//! one of the few [`Value`]s that a dictionary of tensors consists of ([`Role`]), or an object of which only
//! that name is kept, so that it can be passed over, or refused by its name where somebody wants it. All
//! values lie in one arena and refer to each other by index, so that nesting costs no stack, and a value that
//! is used many times is there once: memory is at most a small multiple of the pickle's length, and `limit`
//! bounds the values.

use std::collections::HashMap;

use crate::dtype::DType;

/// The place of a value in a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// A Python value, as far as a dictionary of tensors needs it.
#[derive(Clone, Debug)]
pub(crate) enum Value<'p> {
    Bool(bool),
    Int(i64),
    Text(&'p str),
    Tuple(Box<[Id]>),
    /// In the order of its insertions; the last one for a key wins.
    Dict(Vec<(Id, Id)>),
    Global(Global<'p>),
    Storage(Storage<'p>),
    Tensor(Tensor),
    /// A value that only Python could make, by calling this [`Global`].
    Object(Id),
    /// A value of which nothing but its type is of use here.
    Opaque(&'static str),
}

/// Bytes in the archive that tensors lie in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage<'p> {
    pub(crate) key: &'p str,
    /// The class, a [`Global`].
    pub(crate) class: Id,
    /// Elements of the class's type, or bytes; not checked.
    pub(crate) length: i64,
}

/// The arguments with which PyTorch makes a tensor; not checked.
///
/// Left out are `requires_grad` and `backward_hooks`, which change no number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensor {
    pub(crate) storage: Id,
    pub(crate) offset: Id,
    pub(crate) shape: Id,
    pub(crate) stride: Id,
    /// `None` for the storage's.
    pub(crate) dtype: Option<Id>,
    /// Bits such as "these are the negatives of the stored numbers".
    pub(crate) metadata: Option<Id>,
}

/// A Python name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global<'p> {
    pub(crate) module: &'p str,
    pub(crate) name: &'p str,
    pub(crate) role: Role,
}

/// The use of a Python name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    OrderedDict,
    DefaultDict,
    RebuildTensor,
    RebuildTensorWithDtype,
    RebuildParameter,
    /// Calls another function and gives its tensor a class and attributes.
    RebuildFromType,
    /// A class of tensors that compute as tensors do.
    TensorClass,
    /// A class of storages, of numbers of [`Global::dtype`]'s type.
    Storage,
    /// The class of storages whose tensors have a type of their own.
    Bytes,
    Dtype,
    /// Nothing here.
    Foreign,
}

impl<'p> Global<'p> {
    fn of(module: &'p str, name: &'p str) -> Self {
        let role = match (module, name) {
            ("collections", "OrderedDict") => Role::OrderedDict,
            ("collections", "defaultdict") => Role::DefaultDict,
            ("torch._utils", "_rebuild_tensor_v2") => Role::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Role::RebuildTensorWithDtype,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Role::RebuildParameter
            }
            ("torch._tensor", "_rebuild_from_type" | "_rebuild_from_type_v2") => Role::RebuildFromType,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter" | "Buffer") => Role::TensorClass,
            ("torch.storage", "UntypedStorage") => Role::Bytes,
            ("torch", _) if DTYPES.iter().any(|row| row.0 == name) => Role::Storage,
            ("torch", _) if DTYPES.iter().any(|row| row.1 == name) => Role::Dtype,
            _ => Role::Foreign,
        };
        Global { module, name, role }
    }

    /// The type of a dtype's or a storage's numbers.
    pub(crate) fn dtype(&self) -> Option<DType> {
        DTYPES
            .iter()
            .find(|row| match self.role {
                Role::Storage => row.0 == self.name,
                Role::Dtype => row.1 == self.name,
                _ => false,
            })
            .map(|row| row.2)
    }

    /// The name as people know it, shortened.
    pub(crate) fn title(&self) -> String {
        match (self.module, self.name) {
            ("_codecs", "encode") => "bytes".to_owned(),
            ("builtins" | "__builtin__", name) => short(name).to_owned(),
            ("torch", "ComplexFloatStorage") => "torch.complex64".to_owned(),
            ("torch", "ComplexDoubleStorage") => "torch.complex128".to_owned(),
            (module, name) => format!("{}.{}", short(module), short(name)),
        }
    }
}

/// The beginning of a text, of which a file may have one of any length.
pub(crate) fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(100)]
}

/// PyTorch's storages and types of numbers.
const DTYPES: [(&str, &str, DType); 13] = [
    ("DoubleStorage", "float64", DType::F64),
    ("FloatStorage", "float32", DType::F32),
    ("HalfStorage", "float16", DType::F16),
    ("BFloat16Storage", "bfloat16", DType::BF16),
    ("LongStorage", "int64", DType::I64),
    ("IntStorage", "int32", DType::I32),
    ("ShortStorage", "int16", DType::I16),
    ("CharStorage", "int8", DType::I8),
    ("UInt64Storage", "uint64", DType::U64),
    ("UInt32Storage", "uint32", DType::U32),
    ("UInt16Storage", "uint16", DType::U16),
    ("ByteStorage", "uint8", DType::U8),
    ("BoolStorage", "bool", DType::Bool),
];

/// The values of a pickle.
pub(crate) struct Pickle<'p> {
    values: Vec<Value<'p>>,
    pub(crate) root: Id,
}

impl<'p> Pickle<'p> {
    /// Reads a pickle of protocol 2 to 5 with at most `limit` values.
    ///
    /// The error says what is wrong and at which byte.
    pub(crate) fn read(bytes: &'p [u8], limit: usize) -> Result<Self, String> {
        let mut machine = Machine {
            rest: bytes,
            values: common(),
            limit: limit.saturating_add(COMMON).min(u32::MAX as usize),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            kept: COMMON,
        };
        loop {
            let at = bytes.len() - machine.rest.len();
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => return Ok(Pickle { values: machine.values, root }),
                Err(error) => return Err(format!("byte {at} of the pickle: {error}")),
            }
        }
    }

    pub(crate) fn get(&self, id: Id) -> &Value<'p> {
        &self.values[id.0 as usize]
    }

    /// The Python type, or the name of what would have made the value, for messages.
    pub(crate) fn type_of(&self, id: Id) -> String {
        match *self.get(id) {
            Value::Object(made_by) => match self.get(made_by) {
                Value::Global(global) if global.role == Role::Foreign => global.title(),
                // Of a later PyTorch.
                Value::Global(global) => format!("{} with unknown arguments", global.title()),
                _ => "object".to_owned(),
            },
            Value::Global(global) if global.role == Role::Foreign => format!("class {}", global.title()),
            Value::Global(_) => "class".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Int(_) => "int".to_owned(),
            Value::Text(_) => "str".to_owned(),
            Value::Tuple(_) => "tuple".to_owned(),
            Value::Dict(_) => "dict".to_owned(),
            Value::Storage(_) => "storage".to_owned(),
            Value::Tensor(_) => "tensor".to_owned(),
            Value::Opaque(name) => name.to_owned(),
        }
    }
}

/// The values that are not counted: `None`, the bools, and the ints of a byte.
fn common() -> Vec<Value<'static>> {
    let constants = [Value::Opaque("None"), Value::Bool(false), Value::Bool(true)];
    constants.into_iter().chain((0..256).map(Value::Int)).collect()
}

const NONE: Id = Id(0);
const FALSE: Id = Id(1);
const TRUE: Id = Id(2);
const COMMON: usize = 3 + 256;

fn byte(value: u8) -> Id {
    Id(3 + u32::from(value))
}

struct Machine<'p> {
    rest: &'p [u8],
    values: Vec<Value<'p>>,
    limit: usize,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<u32>,
    memo: HashMap<u32, Id>,
    /// Values from here on are in no memo, so each has one reference.
    kept: usize,
}

impl<'p> Machine<'p> {
    /// Takes one instruction; the last one gives the pickle's value.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [code] = self.array()?;
        match code {
            0x80 => {
                let [version] = self.array()?;
                if !(2..=5).contains(&version) {
                    return Err(format!("expected pickle protocol 2 to 5, got {version}"));
                }
            }
            // A frame's length, which only helps who reads from a pipe.
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => {
                let height = u32::try_from(self.stack.len()).map_err(|_| "too many values on the stack")?;
                self.marks.push(height);
            }
            b'0' => {
                let id = self.pop()?;
                self.discard(&[id]);
            }
            b'1' => {
                let ids = self.pop_to_mark()?;
                self.discard(&ids);
            }

            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'K' => {
                let [value] = self.array()?;
                self.stack.push(byte(value));
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => {
                let length = self.length::<1>()?;
                let bytes = self.take(length)?;
                self.push(int(bytes))?;
            }
            0x8b => {
                let length = self.length::<4>()?;
                let bytes = self.take(length)?;
                self.push(int(bytes))?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Opaque("float"))?;
            }
            0x8c => self.text::<1>()?,
            b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            b'C' => self.bytes::<1>()?,
            b'B' => self.bytes::<4>()?,
            0x8e | 0x96 => self.bytes::<8>()?,

            b')' => self.push(Value::Tuple(Box::default()))?,
            0x85..=0x87 => {
                let items = self.pop_many((code - 0x84).into())?;
                self.push(Value::Tuple(items.into()))?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items.into()))?;
            }
            b']' => self.push(Value::Opaque("list"))?,
            0x8f => self.push(Value::Opaque("set"))?,
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Opaque("set"))?;
            }
            // What is in a list or set is not kept.
            b'a' => {
                let id = self.pop()?;
                self.discard(&[id]);
                self.top()?;
            }
            b'e' | 0x90 => {
                let ids = self.pop_to_mark()?;
                self.discard(&ids);
                self.top()?;
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b's' => {
                let items = self.pop_many(2)?;
                self.insert(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.insert(&items)?;
            }

            b'q' => {
                let index = self.length::<1>()?;
                self.remember(index)?;
            }
            b'r' => {
                let index = self.length::<4>()?;
                self.remember(index)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' => {
                let index = self.length::<1>()?;
                self.recall(index)?;
            }
            b'j' => {
                let index = self.length::<4>()?;
                self.recall(index)?;
            }

            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                match (self.value(names[0]), self.value(names[1])) {
                    (&Value::Text(module), &Value::Text(name)) => self.global(module, name)?,
                    _ => return Err("expected a Python name as two strings".to_owned()),
                }
            }
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.call()?,
            // A call with keywords.
            0x92 => {
                let call = self.pop_many(3)?;
                let made = self.object(call[0])?;
                self.push(made)?;
            }
            // The state of an object beside its items, such as the versions of the modules in a state_dict.
            b'b' => {
                let state = self.pop()?;
                self.discard(&[state]);
                match self.value(self.top()?) {
                    Value::Dict(_) | Value::Object(_) | Value::Opaque(_) => {}
                    _ => return Err("only a dict or an object may be given state".to_owned()),
                }
            }
            _ => return Err(format!("instruction {code:#04x} has no use in a file of weights")),
        }
        Ok(None)
    }

    fn take(&mut self, length: usize) -> Result<&'p [u8], String> {
        let cut = self.rest.split_at_checked(length).ok_or("cut off")?;
        self.rest = cut.1;
        Ok(cut.0)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.rest.split_first_chunk().ok_or("cut off")?;
        self.rest = rest;
        Ok(*array)
    }

    /// A number without sign of N bytes.
    fn length<const N: usize>(&mut self) -> Result<usize, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "cut off".to_owned())
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.length::<N>()?;
        let text = utf8(self.take(length)?)?;
        self.push(Value::Text(text))
    }

    fn bytes<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.length::<N>()?;
        self.take(length)?;
        self.push(Value::Opaque("bytes"))
    }

    fn line(&mut self) -> Result<&'p str, String> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').ok_or("cut off")?;
        let line = self.take(length + 1)?;
        utf8(&line[..length])
    }

    fn value(&self, id: Id) -> &Value<'p> {
        &self.values[id.0 as usize]
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), String> {
        if self.values.len() >= self.limit {
            return Err(self.too_many());
        }
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
        Ok(())
    }

    fn too_many(&self) -> String {
        format!("more than {} values, too many for the file's size", self.limit - COMMON)
    }

    /// Forgets the latest values, if nothing has kept them: a long list costs nothing.
    fn discard(&mut self, ids: &[Id]) {
        for id in ids.iter().rev() {
            let at = id.0 as usize;
            // A value refers to earlier ones only, but for a dict, whose items are no longer on the stack;
            // and what is in no memo was on the stack in one place. So nothing refers to this one.
            if at < self.kept || at + 1 != self.values.len() {
                break;
            }
            self.values.pop();
        }
    }

    /// The latest mark, where that begins which an instruction may take from the stack.
    fn floor(&self) -> usize {
        self.marks.last().map_or(0, |&mark| mark as usize)
    }

    fn top(&self) -> Result<Id, String> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        match self.stack.len().checked_sub(count) {
            Some(from) if from >= self.floor() => Ok(self.stack.split_off(from)),
            _ => Err("the stack is empty".to_owned()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark as usize))
    }

    fn remember(&mut self, index: usize) -> Result<(), String> {
        let top = self.top()?;
        let index = u32::try_from(index).map_err(|_| "too many memo entries")?;
        self.memo.insert(index, top);
        self.kept = self.kept.max(top.0 as usize + 1);
        match self.memo.len() > self.limit {
            true => Err(self.too_many()),
            false => Ok(()),
        }
    }

    fn recall(&mut self, index: usize) -> Result<(), String> {
        let found = u32::try_from(index).ok().and_then(|index| self.memo.get(&index));
        self.stack.push(*found.ok_or_else(|| format!("nothing at memo {index}"))?);
        Ok(())
    }

    /// Puts keys and values, which alternate, into the dict on top of the stack.
    fn insert(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match &mut self.values[top.0 as usize] {
            Value::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            Value::Dict(_) | Value::Object(_) if !rest.is_empty() => Err("a key without a value".to_owned()),
            // A dict of a class of its own: what is in it is not kept.
            Value::Object(_) => {
                self.discard(items);
                Ok(())
            }
            _ => Err("expected a dict to put items into".to_owned()),
        }
    }

    fn global(&mut self, module: &'p str, name: &'p str) -> Result<(), String> {
        self.push(Value::Global(Global::of(module, name)))
    }

    /// The tuple ("storage", class, key, location, length) that stands for bytes outside of the pickle.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Value::Tuple(fields) = self.value(id) else {
            return Err("expected a tuple that names a storage".to_owned());
        };
        let &[kind, class, key, location, length] = &fields[..] else {
            return Err("expected a storage's class, key, location and length".to_owned());
        };
        match [kind, key, location, length].map(|field| self.value(field)) {
            // Where it was, such as on a GPU, changes no number.
            [&Value::Text("storage"), &Value::Text(key), Value::Text(_), &Value::Int(length)]
                if matches!(self.value(class), Value::Global(_)) =>
            {
                self.push(Value::Storage(Storage { key, class, length }))
            }
            _ => Err("expected a storage's class, key, location and length".to_owned()),
        }
    }

    fn call(&mut self) -> Result<(), String> {
        let call = self.pop_many(2)?;
        let (callee, args) = (call[0], call[1]);
        let Value::Tuple(args) = self.value(args) else {
            return Err("expected a class and a tuple of arguments to call it with".to_owned());
        };
        if let Some(made) = self.rebuilt(callee, args) {
            self.stack.push(made);
            return Ok(());
        }
        let made = match self.made(callee, args) {
            Some(made) => made,
            None => self.object(callee)?,
        };
        self.push(made)
    }

    /// The tensor that a call gives back, if it only gives it a class.
    fn rebuilt(&self, callee: Id, args: &[Id]) -> Option<Id> {
        match (self.role(callee)?, args) {
            // With requires_grad, hooks, and the state that Python code has put beside it.
            (Role::RebuildParameter, &[data, _, _] | &[data, _, _, _]) => Some(data),
            _ => None,
        }
    }

    /// The value that a call of a known name makes.
    fn made(&self, callee: Id, args: &[Id]) -> Option<Value<'p>> {
        let tensor = |[storage, offset, shape, stride]: [Id; 4], dtype, metadata| {
            Value::Tensor(Tensor { storage, offset, shape, stride, dtype, metadata })
        };
        Some(match (self.role(callee)?, args) {
            (Role::OrderedDict, []) | (Role::DefaultDict, [] | [_]) => Value::Dict(Vec::new()),
            (Role::RebuildTensor, &[a, b, c, d, _, _]) => tensor([a, b, c, d], None, None),
            (Role::RebuildTensor, &[a, b, c, d, _, _, metadata]) => {
                tensor([a, b, c, d], None, Some(metadata))
            }
            (Role::RebuildTensorWithDtype, &[a, b, c, d, _, _, dtype]) => {
                tensor([a, b, c, d], Some(dtype), None)
            }
            (Role::RebuildTensorWithDtype, &[a, b, c, d, _, _, dtype, metadata]) => {
                tensor([a, b, c, d], Some(dtype), Some(metadata))
            }
            (Role::RebuildFromType, &[function, class, args, _]) => {
                // One level: the functions below call no others.
                match (self.role(class), self.role(function)?, self.value(args)) {
                    (
                        Some(Role::TensorClass),
                        Role::RebuildTensor | Role::RebuildTensorWithDtype,
                        Value::Tuple(args),
                    ) => self.made(function, args)?,
                    (Some(Role::TensorClass), ..) => Value::Object(function),
                    _ => Value::Object(class),
                }
            }
            _ => return None,
        })
    }

    fn role(&self, id: Id) -> Option<Role> {
        match self.value(id) {
            Value::Global(global) => Some(global.role),
            _ => None,
        }
    }

    /// A value that only Python could make, by calling `callee`.
    fn object(&self, callee: Id) -> Result<Value<'p>, String> {
        match *self.value(callee) {
            Value::Global(_) => Ok(Value::Object(callee)),
            Value::Object(made_by) => Ok(Value::Object(made_by)),
            _ => Err("expected a class and a tuple of arguments to call it with".to_owned()),
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

/// The whole number in these little-endian bytes with sign.
fn int(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 8 {
        return Value::Opaque("int");
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}
