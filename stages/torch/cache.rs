//! Keys and values of sequences under generation. All slots end at the same column, however long their sequences are: a
//! step writes one column for all of them, a sliding window is the same columns for all, and what lies before a slot's
//! own start is masked. A slot that is given another sequence takes it up to that column. Knows no token and no prompt.

use tch::Tensor;

use crate::transformer::{HIDDEN, KeyValue, Transformer};

/// Keys and values of a batch that grows by a column a step, allocated once.
pub struct Cache {
    /// Per block: (slots, key heads, capacity, head)
    blocks: Vec<KeyValue>,
    /// Columns in use: the next token's keys and values go into the one after them.
    length: i64,
    capacity: i64,
    /// The first column of each slot.
    starts: Vec<i64>,
    /// (slots, 1, 1, capacity), added to the scores: hides what lies before a slot's start.
    mask: Tensor,
}

/// What a step looks at in one block.
pub struct Seen {
    /// (slots, key heads, columns, head)
    pub key: Tensor,
    /// The same of values.
    pub value: Tensor,
    /// (slots, 1, 1, columns); `None` where every column is every slot's.
    pub mask: Option<Tensor>,
}

impl Cache {
    /// Empty slots.
    pub fn new(model: &Transformer, slots: i64, capacity: i64) -> Self {
        let config = &model.config;
        let size = [slots, config.num_key_value_heads, capacity, config.head_dim];
        let room = || Tensor::zeros(size, (model.kind, model.device));
        let blocks = (0..config.num_hidden_layers).map(|_| (room(), room())).collect();
        let mask = Tensor::zeros([slots, 1, 1, capacity], (model.kind, model.device));
        Self { blocks, length: 0, capacity, starts: vec![0; slots as usize], mask }
    }

    /// Bytes that a column of one slot takes.
    pub fn bytes_of_a_column(model: &Transformer) -> i64 {
        let config = &model.config;
        let bytes = model.kind.elt_size_in_bytes() as i64;
        2 * bytes * config.num_key_value_heads * config.head_dim * config.num_hidden_layers as i64
    }

    /// Whether another step has a column.
    pub fn is_full(&self) -> bool {
        self.length == self.capacity
    }

    /// Gives a slot the first `time` columns of row `row` of keys and values: (rows, key heads, time, head) per block.
    pub fn put(&mut self, slot: usize, from: &[KeyValue], row: i64, time: i64) {
        if time > self.length {
            self.end_at(time);
        }
        let start = self.length - time;
        for ((key, value), (new_key, new_value)) in self.blocks.iter().zip(from) {
            for (there, new) in [(key, new_key), (value, new_value)] {
                there.get(slot as i64).narrow(1, start, time).copy_(&new.get(row).narrow(1, 0, time));
            }
        }
        self.begin_at(slot, start);
    }

    /// Takes a slot's sequence away: what follows in it is looked at by nobody.
    pub fn clear(&mut self, slot: usize) {
        self.begin_at(slot, self.length);
    }

    /// Moves all sequences to the front as far as the longest allows.
    pub fn make_room(&mut self) {
        let longest = self.starts.iter().map(|start| self.length - start).max().unwrap_or(0);
        self.end_at(longest);
    }

    /// Leaves only these slots, in this order.
    pub fn keep(&mut self, slots: &[usize]) {
        let rows: Vec<i64> = slots.iter().map(|slot| *slot as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.mask.device());
        for (key, value) in &mut self.blocks {
            *key = key.index_select(0, &rows);
            *value = value.index_select(0, &rows);
        }
        self.mask = self.mask.index_select(0, &rows);
        self.starts = slots.iter().map(|slot| self.starts[*slot]).collect();
    }

    /// Writes a column of one block, (slots, key heads, 1, head); what the step's queries then look at.
    pub fn extended(&self, layer: usize, key: &Tensor, value: &Tensor, window: Option<i64>) -> Seen {
        let (past_key, past_value) = &self.blocks[layer];
        past_key.narrow(2, self.length, 1).copy_(key);
        past_value.narrow(2, self.length, 1).copy_(value);
        let end = self.length + 1;
        let earliest = self.starts.iter().copied().min().unwrap_or(0);
        let latest = self.starts.iter().copied().max().unwrap_or(0);
        let first = window.map_or(earliest, |window| earliest.max(end - window));
        let columns = end - first;
        let mask = (latest > first).then(|| self.mask.narrow(3, first, columns));
        let look = |past: &Tensor| past.narrow(2, first, columns);
        Seen { key: look(past_key), value: look(past_value), mask }
    }

    /// The column that the blocks have written is in use.
    pub fn advance(&mut self) {
        self.length += 1;
    }

    fn begin_at(&mut self, slot: usize, start: i64) {
        self.starts[slot] = start;
        let row = self.mask.get(slot as i64);
        let _ = row.narrow(2, 0, start).fill_(f64::from(HIDDEN));
        let _ = row.narrow(2, start, self.capacity - start).fill_(0.0);
    }

    fn end_at(&mut self, length: i64) {
        let first = self.starts.iter().copied().min().unwrap_or(0);
        let (used, moved) = (self.length - first, length - self.length);
        if used > 0 && moved != 0 {
            for tensor in self.blocks.iter().flat_map(|(key, value)| [key, value]) {
                // The two places overlap.
                let sequences = tensor.narrow(2, first, used).copy();
                tensor.narrow(2, first + moved, used).copy_(&sequences);
            }
        }
        self.length = length;
        for slot in 0..self.starts.len() {
            self.begin_at(slot, self.starts[slot] + moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of one block with one head of width one, so that every number in it can be named.
    fn cache(slots: i64, capacity: i64) -> Cache {
        let room = || Tensor::zeros([slots, 1, capacity, 1], (tch::Kind::Float, tch::Device::Cpu));
        let mask = Tensor::zeros([slots, 1, 1, capacity], (tch::Kind::Float, tch::Device::Cpu));
        Cache { blocks: vec![(room(), room())], length: 0, capacity, starts: vec![0; slots as usize], mask }
    }

    fn sequence(values: &[f32]) -> Vec<KeyValue> {
        let tensor = Tensor::from_slice(values).view([1, 1, -1, 1]);
        vec![(tensor.shallow_clone(), tensor)]
    }

    fn put(cache: &mut Cache, slot: usize, values: &[f32]) {
        cache.put(slot, &sequence(values), 0, values.len() as i64);
    }

    /// What each slot sees after a column with these values.
    fn step(cache: &mut Cache, values: &[f32], window: Option<i64>) -> Vec<Vec<f32>> {
        let column = Tensor::from_slice(values).view([-1, 1, 1, 1]);
        let seen = cache.extended(0, &column, &column, window);
        cache.advance();
        let columns = seen.key.size()[2] as usize;
        let rows = |tensor: &Tensor| Vec::<f32>::try_from(&tensor.flatten(0, -1)).expect("numbers");
        let (keys, mask) = (rows(&seen.key), seen.mask.map(|mask| rows(&mask.contiguous())));
        let visible = |row: usize| {
            let shown = (0..columns).filter(|at| mask.as_ref().is_none_or(|mask| mask[row * columns + at] == 0.0));
            shown.map(|at| keys[row * columns + at]).collect()
        };
        (0..values.len()).map(visible).collect()
    }

    #[test]
    fn every_slot_sees_its_own_sequence_and_nothing_of_who_was_there_before() {
        let mut cache = cache(2, 8);
        put(&mut cache, 0, &[1.0, 2.0, 3.0]);
        put(&mut cache, 1, &[7.0]);
        assert_eq!(step(&mut cache, &[4.0, 8.0], None), [vec![1.0, 2.0, 3.0, 4.0], vec![7.0, 8.0]]);
        cache.clear(0);
        put(&mut cache, 0, &[5.0]);
        assert_eq!(step(&mut cache, &[6.0, 9.0], None), [vec![5.0, 6.0], vec![7.0, 8.0, 9.0]]);
        assert_eq!(step(&mut cache, &[6.5, 9.5], Some(2)), [[6.0, 6.5], [9.0, 9.5]]);
    }

    #[test]
    fn a_longer_sequence_and_a_full_cache_move_the_others() {
        let mut cache = cache(2, 6);
        put(&mut cache, 0, &[1.0]);
        put(&mut cache, 1, &[5.0, 6.0, 7.0]);
        assert_eq!(step(&mut cache, &[2.0, 8.0], None), [vec![1.0, 2.0], vec![5.0, 6.0, 7.0, 8.0]]);
        cache.clear(1);
        step(&mut cache, &[3.0, 0.0], None);
        step(&mut cache, &[4.0, 0.0], None);
        assert!(cache.is_full());
        cache.make_room();
        assert!(!cache.is_full());
        assert_eq!(step(&mut cache, &[4.5, 0.5], None)[0], [1.0, 2.0, 3.0, 4.0, 4.5]);
    }

    #[test]
    fn kept_slots_keep_their_sequences() {
        let mut cache = cache(3, 4);
        for (slot, value) in [1.0, 2.0, 3.0].into_iter().enumerate() {
            put(&mut cache, slot, &[value]);
        }
        cache.keep(&[2, 0]);
        assert_eq!(step(&mut cache, &[3.5, 1.5], None), [[3.0, 3.5], [1.0, 1.5]]);
    }
}
