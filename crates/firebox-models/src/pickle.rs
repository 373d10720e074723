//! The part of Python's pickle format that a PyTorch file of weights needs.
//!
//! A pickle is a program for a stack machine. Nothing of it is run here: a Python name must be one of a short
//! list ([`Global`]), and a call of it makes a [`Value`] or is an error. All values lie in one arena and refer to
//! each other by index, so that nesting costs no stack, and a value that is used many times is there once:
//! memory is at most a small multiple of the pickle's length, and `limit` bounds the values.

use std::collections::HashMap;

use burn::tensor::{BoolStore, DType};

/// Where a value lies in a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u32);

/// A Python value, as far as a dictionary of tensors needs it.
#[derive(Clone, Debug)]
pub(crate) enum Value<'p> {
    Int(i64),
    Text(&'p str),
    Tuple(Box<[Id]>),
    /// In the order of its insertions, of which a later one for the same key wins.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage<'p>),
    Tensor(Tensor),
    /// A value of which nothing but its type is of use here.
    Opaque(&'static str),
}

impl Value<'_> {
    /// The Python type, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Int(_) => "int",
            Value::Text(_) => "str",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::Global(_) => "class",
            Value::Storage(_) => "storage",
            Value::Tensor(_) => "tensor",
            Value::Opaque(name) => name,
        }
    }
}

/// Bytes in the archive that tensors lie in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage<'p> {
    pub(crate) key: &'p str,
    /// `None` for a storage of bytes, whose tensors have a type of their own.
    pub(crate) dtype: Option<DType>,
    /// Elements of `dtype`, or bytes; not checked.
    pub(crate) length: i64,
}

/// The arguments with which PyTorch makes a tensor; not checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensor {
    pub(crate) storage: Id,
    pub(crate) offset: Id,
    pub(crate) shape: Id,
    pub(crate) stride: Id,
    /// `None` for the storage's.
    pub(crate) dtype: Option<DType>,
}

/// The Python names that a pickle may use. All others, and so all that could do something, are errors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorWithDtype,
    RebuildParameter,
    Storage(Option<DType>),
    Dtype(DType),
    /// Makes values that have no part in a tensor.
    Plain(&'static str),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Self> {
        let dtype = |column: fn(&(&'static str, &'static str, DType)) -> &'static str| {
            DTYPES.iter().find(|row| column(row) == name).map(|row| row.2)
        };
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTensorWithDtype),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch.storage", "UntypedStorage") => Some(Global::Storage(None)),
            ("torch", "Size") => Some(Global::Plain("torch.Size")),
            ("torch", "device") => Some(Global::Plain("torch.device")),
            ("_codecs", "encode") => Some(Global::Plain("bytes")),
            ("builtins" | "__builtin__", "set") => Some(Global::Plain("set")),
            ("torch", _) => match dtype(|row| row.0) {
                Some(dtype) => Some(Global::Storage(Some(dtype))),
                None => dtype(|row| row.1).map(Global::Dtype),
            },
            _ => None,
        }
    }
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
    ("BoolStorage", "bool", DType::Bool(BoolStore::Native)),
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
            values: Vec::new(),
            limit: limit.min(u32::MAX as usize),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
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
}

struct Machine<'p> {
    rest: &'p [u8],
    values: Vec<Value<'p>>,
    limit: usize,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
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
            b'(' => self.marks.push(self.stack.len()),

            b'N' => self.push(Value::Opaque("None"))?,
            0x88 | 0x89 => self.push(Value::Opaque("bool"))?,
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Int(value.into()))?;
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
            b'G' => {
                self.take(8)?;
                self.push(Value::Opaque("float"))?;
            }
            0x8c => self.text::<1>()?,
            b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            b'C' => self.bytes::<1>()?,
            b'B' => self.bytes::<4>()?,
            0x8e => self.bytes::<8>()?,

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
                self.pop()?;
                self.top()?;
            }
            b'e' | 0x90 => {
                self.pop_to_mark()?;
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
            b'R' => self.call()?,
            // The state of an object beside its items, such as the versions of the modules in a state_dict.
            b'b' => {
                self.pop()?;
                if !matches!(self.value(self.top()?), Value::Dict(_)) {
                    return Err("only a dict may be given state".to_owned());
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
        if self.values.len() == self.limit {
            return Err(format!("more than {} values, too many for the file's size", self.limit));
        }
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
        Ok(())
    }

    /// What an instruction may take from the stack begins at the latest mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
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
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, index: usize) -> Result<(), String> {
        let top = self.top()?;
        let index = u32::try_from(index).map_err(|_| "too many memo entries")?;
        self.memo.insert(index, top);
        Ok(())
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
            Value::Dict(_) => Err("a key without a value".to_owned()),
            other => Err(format!("expected a dict to put items into, got {}", other.type_name())),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::named(module, name).ok_or_else(|| {
            format!(
                "refused the Python name {:?}: a dict of plain tensors, as of \
                 torch.save(model.state_dict(), path), needs no such name",
                format!("{module}.{name}")
            )
        })?;
        self.push(Value::Global(global))
    }

    /// The tuple ("storage", class, key, location, length) that stands for bytes outside of the pickle.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Value::Tuple(fields) = self.value(id) else {
            return Err("expected a tuple that names a storage".to_owned());
        };
        let fields = fields.iter().map(|&field| self.value(field)).collect::<Vec<_>>();
        match fields[..] {
            [
                &Value::Text("storage"),
                &Value::Global(Global::Storage(dtype)),
                &Value::Text(key),
                &Value::Text(_),
                &Value::Int(length),
            ] => self.push(Value::Storage(Storage { key, dtype, length })),
            _ => Err("expected a storage's class, key, location and length".to_owned()),
        }
    }

    fn call(&mut self) -> Result<(), String> {
        let call = self.pop_many(2)?;
        let (callee, args) = match (self.value(call[0]), self.value(call[1])) {
            (&Value::Global(callee), Value::Tuple(args)) => (callee, &args[..]),
            _ => return Err("expected a class and a tuple of arguments to call it with".to_owned()),
        };
        let made = match (callee, args) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            (Global::Plain(name), _) => Value::Opaque(name),
            (Global::RebuildTensor, &[storage, offset, shape, stride, _, _, ..]) => {
                Value::Tensor(Tensor { storage, offset, shape, stride, dtype: None })
            }
            (Global::RebuildTensorWithDtype, &[storage, offset, shape, stride, _, _, dtype, ..]) => {
                match self.value(dtype) {
                    &Value::Global(Global::Dtype(dtype)) => {
                        Value::Tensor(Tensor { storage, offset, shape, stride, dtype: Some(dtype) })
                    }
                    other => return Err(format!("expected a tensor's dtype, got {}", other.type_name())),
                }
            }
            (Global::RebuildParameter, &[data, ..]) if matches!(self.value(data), Value::Tensor(_)) => {
                self.stack.push(data);
                return Ok(());
            }
            _ => return Err(format!("{callee:?} cannot be called with {} arguments", args.len())),
        };
        self.push(made)
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
