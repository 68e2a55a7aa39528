"""The HTTP server of llama.cpp from the package xllamacpp, on loopback, at a port of its own choice.

    llama_serve.py MODEL.gguf
"""
import signal
import sys

import xllamacpp

settings = xllamacpp.CommonParams()
settings.model.path = sys.argv[1]
settings.hostnames = ["127.0.0.1"]
settings.port = 0
settings.n_parallel = 2
settings.n_ctx = 4096
settings.cpuparams.n_threads = 1
settings.cpuparams_batch.n_threads = 1
settings.n_gpu_layers = 0
settings.warmup = False
server = xllamacpp.Server(settings)
print("listening", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
