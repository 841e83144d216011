from lllm.log.codec import seal as seal
