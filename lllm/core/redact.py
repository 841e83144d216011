from lllm.log.redact import Redactor as Redactor
