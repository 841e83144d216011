"""The sandbox as a kernelspec, for every Jupyter client: `jupyter-kernel-test` passes against it."""

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import jupyter_kernel_test  # type: ignore[import-untyped]
import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory

from lllm.errors import UnknownKeyError
from lllm.sandbox import provisioner
from tests.sandbox import tier


@pytest.fixture(scope="session")
def kernelspec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The kernelspec is installed, and the provisioner known. Its kernels have the strongest tier of this machine."""
    prefix = tmp_path_factory.mktemp("jupyter")
    provisioner.install(prefix, tier="process" if tier.weaker() else None)
    entry = EntryPoint(
        provisioner.NAME, "lllm.sandbox.provisioner:Provisioner", KernelProvisionerFactory.GROUP_NAME
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(prefix / "share" / "jupyter"))
        patch.setitem(KernelProvisionerFactory.instance().provisioners, provisioner.NAME, entry)
        yield


@pytest.mark.usefixtures("kernelspec")
class TestSandboxedKernel(jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    kernel_name = provisioner.NAME
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[Any] = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar[Any] = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]
    incomplete_code_samples: ClassVar[Any] = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples: ClassVar[Any] = ["import = 7q"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('x')"
    code_execute_result: ClassVar[Any] = [{"code": "1+2+3", "result": "6"}]
    code_display_data: ClassVar[Any] = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))",
            "mime": "text/html",
        },
        {
            "code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))",
            "mime": "text/latex",
        },
    ]
    code_clear_output = "from IPython.display import clear_output; clear_output()"
    code_inspect_sample = "print"

    def test_history(self) -> None:
        """That of the running kernel. Nothing is stored beyond: a database would fail where the disk is full."""
        self.flush_channels()
        codes = ["print('history')", "1 + 2"]
        reply = self.history_helper(codes, output=False, raw=True, hist_access_type="range", session=0)
        assert [entry[2] for entry in reply["content"]["history"][-2:]] == codes


def test_interrupt_and_kill(kernelspec: Any) -> None:
    manager, client = start_new_kernel(kernel_name=provisioner.NAME)
    try:
        folder = manager.provisioner._folder
        assert client.execute_interactive("1 + 1", timeout=30)["content"]["status"] == "ok"
        request = client.execute("import time\nprint('on')\ntime.sleep(600)")
        while client.get_iopub_msg(timeout=30)["msg_type"] != "stream":
            pass
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=30))["parent_header"]["msg_id"] != request:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert manager.is_alive()
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert not manager.is_alive()
    assert not folder.exists()


def test_restart_keeps_folder(kernelspec: Any) -> None:
    manager, client = start_new_kernel(kernel_name=provisioner.NAME)
    try:
        client.execute_interactive("x = 1\nopen('a.txt', 'w').write('kept')", timeout=30)
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=60)
        reply = client.execute_interactive("assert open('a.txt').read() == 'kept'\nx", timeout=30)
        assert reply["content"]["ename"] == "NameError"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_kernelspec_limits(tmp_path: Path) -> None:
    folder = provisioner.install(tmp_path, limits={"memory_bytes": 2**30})
    spec = json.loads((folder / "kernel.json").read_text())
    assert spec["metadata"]["kernel_provisioner"]["config"]["limits"] == {"memory_bytes": 2**30}
    assert spec["interrupt_mode"] == "message"
    with pytest.raises(UnknownKeyError, match="memory_byte"):
        provisioner.install(tmp_path, limits={"memory_byte": 1})


def test_entry_point_is_declared() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    entries = project["entry-points"][KernelProvisionerFactory.GROUP_NAME]
    assert entries == {provisioner.NAME: "lllm.sandbox.provisioner:Provisioner"}
