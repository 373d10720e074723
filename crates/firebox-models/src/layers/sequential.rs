//! Layers one after the other, with PyTorch's names.

/// A struct of layers whose paths are their places in a `torch.nn.Sequential`, in which activations take a place, too.
macro_rules! sequential {
    ($(#[$doc:meta])* $name:ident { $($place:literal $field:ident: $layer:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $(pub(crate) $field: $layer),+
        }

        impl burn::module::Module for $name {
            fn collect_devices(&self, devices: Vec<burn::tensor::Device>) -> Vec<burn::tensor::Device> {
                $(let devices = self.$field.collect_devices(devices);)+
                devices
            }

            fn fork(self, device: &burn::tensor::Device) -> Self {
                $name { $($field: self.$field.fork(device)),+ }
            }

            fn to_device(self, device: &burn::tensor::Device) -> Self {
                $name { $($field: self.$field.to_device(device)),+ }
            }

            fn train(self) -> Self {
                $name { $($field: self.$field.train()),+ }
            }

            fn valid(&self) -> Self {
                $name { $($field: self.$field.valid()),+ }
            }

            fn materialize(self) -> Self {
                $name { $($field: self.$field.materialize()),+ }
            }

            fn num_params(&self) -> usize {
                0 $(+ self.$field.num_params())+
            }

            fn visit<V: burn::module::ModuleVisitor>(&self, visitor: &mut V) {
                $(
                    visitor.enter_module($place, "Sequential");
                    self.$field.visit(visitor);
                    visitor.exit_module($place, "Sequential");
                )+
            }

            fn map<M: burn::module::ModuleMapper>(self, mapper: &mut M) -> Self {
                $(
                    mapper.enter_module($place, "Sequential");
                    let $field = self.$field.map(mapper);
                    mapper.exit_module($place, "Sequential");
                )+
                $name { $($field),+ }
            }
        }

        impl burn::module::ModuleDisplayDefault for $name {
            fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
                content.set_top_level_type("Sequential")$(.add($place, &self.$field))+.optional()
            }

            fn num_params(&self) -> usize {
                burn::module::Module::num_params(self)
            }
        }

        impl burn::module::ModuleDisplay for $name {}
    };
}

pub(crate) use sequential;
