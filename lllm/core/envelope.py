from lllm.log.codec import open_event as open_event
from lllm.log.codec import seal as seal
from lllm.log.codec import verify_chain as verify_chain
