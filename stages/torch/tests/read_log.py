"""Reads what a training run logged with the libraries that users read it with.

usage: python read_log.py FOLDER    (tensorboard, transformers; prints {"scalars": [[tag, step, value], ...], "state": ...})
"""
import json
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerState

folder = Path(sys.argv[1])
events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
events.Reload()
tags = events.Tags()["scalars"]
scalars = [[tag, event.step, event.value] for tag in tags for event in events.Scalars(tag)]
state = TrainerState.load_from_json(str(folder / "trainer_state"))
print(json.dumps({"scalars": scalars, "state": [state.global_step, state.max_steps, len(state.log_history)]}))
