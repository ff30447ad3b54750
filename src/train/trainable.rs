//! What is being trained: the variables among a decoder's weights, in a fixed order, by stage.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

use crate::error::Error;
use crate::model::decoder::Decoder;
use crate::model::ops::weight::Weight;

/// The trained weights in a fixed order, and where in the decoder each belongs.
pub struct Trainable {
    /// `model.layers.0.mlp.up_proj.lora_A.weight`, or a checkpoint name while pretraining.
    pub names: Vec<String>,
    /// The variables, in the order of `names`.
    pub vars: Vec<Var>,
    /// By block, the indices of the variables that it holds.
    pub in_block: Vec<Vec<usize>>,
    /// Index of the weight of the norm before the head, where it is trained.
    pub in_final_norm: Option<usize>,
    /// Index of the embedding, where it is trained.
    pub embedding: Option<usize>,
    /// Index of the output head, where it is trained; the embedding's where the two are tied.
    pub output: Option<usize>,
}

impl Trainable {
    /// Finds the variables of a decoder.
    pub fn of(decoder: &Decoder) -> Result<Self> {
        let mut all = Self {
            names: Vec::new(),
            vars: Vec::new(),
            in_block: Vec::new(),
            in_final_norm: None,
            embedding: None,
            output: None,
        };
        all.embedding = all.add_weight(format!("{}.weight", decoder.config.names.embedding), &decoder.embedding)?;
        all.output = match decoder.config.tie_word_embeddings {
            true => all.embedding,
            false => all.add_weight("lm_head.weight".into(), &decoder.output)?,
        };
        for block in &decoder.blocks {
            let mut here = Vec::new();
            for norm in block.norms() {
                here.extend(all.add(format!("{}.weight", norm.path), &norm.weight)?);
            }
            for linear in block.linears() {
                here.extend(all.add_weight(format!("{}.weight", linear.path), &linear.weight)?);
                if let Some(bias) = &linear.bias {
                    here.extend(all.add(format!("{}.bias", linear.path), bias)?);
                }
                if let Some(lora) = &linear.lora {
                    here.extend(all.add(format!("{}.lora_A.weight", linear.path), &lora.a)?);
                    here.extend(all.add(format!("{}.lora_B.weight", linear.path), &lora.b)?);
                    if let Some(magnitude) = &lora.magnitude {
                        here.extend(all.add(format!("{}.lora_magnitude_vector", linear.path), &magnitude.vector)?);
                    }
                }
            }
            all.in_block.push(here);
        }
        all.in_final_norm = all.add(format!("{}.weight", decoder.norm.path), &decoder.norm.weight)?;
        Ok(all)
    }

    /// Whether any weight below block `layer` is trained: then the block's input needs a gradient.
    pub fn any_below(&self, layer: usize) -> bool {
        self.embedding.is_some() || self.in_block[..layer].iter().any(|b| !b.is_empty())
    }

    /// Copies of the weights as they stand, by name.
    pub fn values(&self) -> Result<BTreeMap<String, Tensor>> {
        self.names.iter().zip(&self.vars).map(|(name, var)| Ok((name.clone(), var.detach().copy()?))).collect()
    }

    /// Sets the weights to values that were saved: one for each by its name and of its shape, and none besides.
    pub fn restore(&self, saved: &BTreeMap<String, Tensor>) -> crate::error::Result<()> {
        if let Some(name) = saved.keys().find(|name| !self.names.contains(name)) {
            return Err(Error::usage(format!("the checkpoint has a weight `{name}` that is not trained here")));
        }
        for (name, var) in self.names.iter().zip(&self.vars) {
            let Some(tensor) = saved.get(name).filter(|tensor| tensor.shape() == var.shape()) else {
                return Err(Error::usage(format!("the checkpoint has no weight `{name}` of {:?}", var.shape())));
            };
            var.set(&tensor.to_device(var.device())?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }

    fn add_weight(&mut self, name: String, weight: &Weight) -> Result<Option<usize>> {
        weight.dense().map_or(Ok(None), |tensor| self.add(name, tensor))
    }

    fn add(&mut self, name: String, tensor: &Tensor) -> Result<Option<usize>> {
        if !tensor.is_variable() {
            return Ok(None);
        }
        self.names.push(name);
        self.vars.push(Var::from_tensor(tensor)?);
        Ok(Some(self.vars.len() - 1))
    }
}
