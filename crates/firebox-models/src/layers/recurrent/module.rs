//! [`Recurrent`] as a Burn module whose parameters have PyTorch's names.

use std::fmt;

use burn::module::{
    Content, DisplaySettings, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

use crate::layers::recurrent::direction::Direction;
use crate::layers::recurrent::layer::Recurrent;

/// The path of a parameter, such as `weight_ih_l1_reverse`.
fn name(parameter: &str, layer: usize, direction: usize) -> String {
    let reverse = if direction == 1 { "_reverse" } else { "" };
    format!("{parameter}_l{layer}{reverse}")
}

const CONTAINER: &str = "Struct:Recurrent";

fn visit<V: ModuleVisitor>(visitor: &mut V, name: &str, module: &impl Module) {
    visitor.enter_module(name, CONTAINER);
    module.visit(visitor);
    visitor.exit_module(name, CONTAINER);
}

fn map<V: ModuleMapper, M: Module>(mapper: &mut V, name: &str, module: M) -> M {
    mapper.enter_module(name, CONTAINER);
    let module = module.map(mapper);
    mapper.exit_module(name, CONTAINER);
    module
}

impl Recurrent {
    fn each(self, function: impl Fn(Direction) -> Direction) -> Self {
        let layers = self.layers.into_iter();
        let layers = layers.map(|layer| layer.into_iter().map(&function).collect()).collect();
        Recurrent { layers, ..self }
    }
}

impl Module for Recurrent {
    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.layers.iter().flatten().fold(devices, |devices, direction| direction.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|direction| direction.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|direction| direction.to_device(device))
    }

    fn train(self) -> Self {
        let dropout = self.dropout.clone().train();
        Recurrent { dropout, ..self.each(Module::train) }
    }

    fn valid(&self) -> Self {
        let dropout = self.dropout.valid();
        Recurrent { dropout, ..self.clone().each(|direction| direction.valid()) }
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for (layer, directions) in self.layers.iter().enumerate() {
            for (place, direction) in directions.iter().enumerate() {
                visit(visitor, &name("weight_ih", layer, place), &direction.weight_ih);
                visit(visitor, &name("weight_hh", layer, place), &direction.weight_hh);
                visit(visitor, &name("bias_ih", layer, place), &direction.bias_ih);
                visit(visitor, &name("bias_hh", layer, place), &direction.bias_hh);
            }
        }
        visit(visitor, "dropout", &self.dropout);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let mut layers = Vec::with_capacity(self.layers.len());
        for (layer, directions) in self.layers.into_iter().enumerate() {
            let directions = directions.into_iter().enumerate().map(|(place, direction)| Direction {
                weight_ih: map(mapper, &name("weight_ih", layer, place), direction.weight_ih),
                weight_hh: map(mapper, &name("weight_hh", layer, place), direction.weight_hh),
                bias_ih: map(mapper, &name("bias_ih", layer, place), direction.bias_ih),
                bias_hh: map(mapper, &name("bias_hh", layer, place), direction.bias_hh),
            });
            layers.push(directions.collect());
        }
        Recurrent { layers, dropout: map(mapper, "dropout", self.dropout), ..self }
    }
}

impl ModuleDisplayDefault for Recurrent {
    fn content(&self, content: Content) -> Option<Content> {
        content
            .set_top_level_type("Recurrent")
            .add_debug_attribute("cell", &self.cell)
            .add("input_size", &self.input_size())
            .add("hidden_size", &self.hidden_size)
            .add("num_layers", &self.layers.len())
            .add("dropout", &self.dropout.prob)
            .add("bidirectional", &(self.directions() == 2))
            .optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl fmt::Display for Recurrent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(DisplaySettings::default()))
    }
}

impl ModuleDisplay for Recurrent {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }
}
