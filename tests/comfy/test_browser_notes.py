"""Mistakes that people make are said on the page, in the run in which they are made; a right graph says nothing."""

from collections.abc import Iterator

import pytest

from tests.comfy.browser import MISSING_BROWSER, TOASTS, ComfyPage, browsing
from tests.comfy.graphs import loaded, with_ksampler
from tests.comfy.mistakes import CASES, FAMILY, RIGHT, Case, write_files
from tests.comfy.server import Graph, Server
from tests.test_messages import LINES

RUNS = LINES["RUNS"]
QUICK = ("right", "euler, simple", "6 steps")


@pytest.fixture(scope="module")
def opened(server: Server) -> Iterator[ComfyPage]:
    try:
        with browsing() as window:
            page = window(server)
            page.open()
            yield page
    except (ImportError, FileNotFoundError):
        pytest.skip(MISSING_BROWSER)


@pytest.fixture
def page(opened: ComfyPage) -> ComfyPage:
    opened.close_pop_ups()
    return opened


def run(page: ComfyPage, case: Case, inside: tuple[str, ...] = ()) -> None:
    """Press Run, and wait until the run is over or refused. inside: types of nodes to put into a subgraph."""
    page.server.needs(case.family)
    write_files(page.server)
    page.load(case.graph(page.server))
    if inside:
        page.put_into_subgraph(inside)
    page.server.forget()  # a node whose result is kept does not run again
    name = page.run()
    if name:
        page.finish(name)
    else:
        page.page.locator(TOASTS).first.wait_for()
        page.settle()


def agree(said: list[str], beginnings: tuple[str, ...]) -> bool:
    """Each beginning belongs to one sentence, and none is left over."""
    return len(said) == len(beginnings) and all(any(s.startswith(b) for s in said) for b in beginnings)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_the_page_says_what_to_change_and_nothing_else(page: ComfyPage, name: str) -> None:
    case = CASES[name]
    run(page, case)
    assert agree(page.notes(), case.said), page.notes()


def test_it_is_said_again_in_the_next_run_and_gone_in_a_right_one(page: ComfyPage) -> None:
    wrong, right = CASES["another cfg"], CASES["right"]
    for case in (wrong, wrong, right, wrong):
        run(page, case)
        assert agree(page.notes(), case.said), page.notes()


@pytest.mark.slow
def test_it_stays_until_its_run_is_over(page: ComfyPage) -> None:
    """Which begins long before it ends: each of the five steps takes three seconds more."""
    run(page, CASES["another cfg"]._replace(graph=lambda server: with_ksampler(RIGHT, FAMILY, slow=3.0)))
    assert agree(page.notes(), CASES["another cfg"].said), page.notes()


@pytest.mark.slow
def test_it_is_said_from_inside_a_subgraph(page: ComfyPage) -> None:
    run(page, CASES["another cfg"], inside=("DyWeightLoadSolver", "DyWeightApply", "KSampler"))
    assert not {"DyWeightApply", "KSampler"} & set(page.nodes())
    assert agree(page.notes(), CASES["another cfg"].said), page.notes()


def test_a_setting_switches_it_off(page: ComfyPage) -> None:
    setting = "on => app.extensionManager.setting.set('DyWeight.Notes', on)"
    page.page.evaluate(setting, False)
    try:
        run(page, CASES["another cfg"])
        assert page.notes() == []
    finally:
        page.page.evaluate(setting, True)
    assert "DyWeight: Set cfg to 1" in page.server.log.read_text(), "the log still says it"


@pytest.fixture(scope="module")
def chinese(opened: ComfyPage) -> Iterator[ComfyPage]:
    with opened.speaking("zh") as page:
        yield page


def test_it_is_said_in_the_pages_language(chinese: ComfyPage) -> None:
    chinese.close_pop_ups()
    run(chinese, CASES["another cfg"])
    assert chinese.notes() == ["请把 cfg 设为 1：right 以此制作，而不是 3。"]  # noqa: RUF001


def test_a_fit_says_in_the_pages_language_what_it_does_and_why_it_refuses(chinese: ComfyPage) -> None:
    chinese.close_pop_ups()
    run(chinese, Case(lambda server: _fit(boundary="half")))
    reason = "分界为 half：请填写噪声水平，如 Wan 2.2 的 0.875，或切换模型的步和总步数，如 10/20"  # noqa: RUF001
    assert chinese.notes() == [f"请检查连接到“拟合求解器”的内容：{reason}"]  # noqa: RUF001
    time = {"message": "about {number} s", "values": {"number": "5"}}
    values = {"calls": "10", "most": "20", "time": time, "steps": "3", "best": "0.5"}
    shown = chinese.page.evaluate(
        """async values => {
            const [node] = app.graph.nodes.filter(node => node.comfyClass === "DyWeightFit")
            const detail = { node: node.id, message: values.message, values }
            app.api.dispatchEvent(new CustomEvent("dyweight.fit", { detail }))
            await new Promise(done => setTimeout(done, 500))
            return node.widgets.find(widget => widget.name === "result").element.textContent
        }""",
        {"message": RUNS, **values},
    )
    assert shown == "网络调用 10 次，最多 20 次，还需约 5 秒。\n目前 3 步的最小误差 0.5"  # noqa: RUF001


LINES_BELOW = """app.graph.nodes.find(node => node.comfyClass === "DyWeightFit")
    .widgets.find(widget => widget.name === "result").element.textContent"""


@pytest.mark.slow
def test_what_a_fit_says_stays_with_its_workflow(page: ComfyPage) -> None:
    page.load(_fit())
    saved = page.page.evaluate("app.graph.serialize()")
    mine, other = ({**saved, "id": f"1a2b3c4d-0000-4000-8000-00000000000{number}"} for number in (1, 2))
    page.load_workflow(mine)
    run = page.run()
    page.load_workflow(other)
    assert page.finish(run)["status"]["status_str"] == "success"
    assert page.page.evaluate(LINES_BELOW) == ""
    page.load_workflow(mine)
    page.page.wait_for_function(f"{LINES_BELOW}.includes('euler/simple')")
    page.open()
    page.load_workflow(mine)
    page.page.wait_for_function(f"{LINES_BELOW}.includes('euler/simple')")
    page.load_workflow(other)
    page.settle()
    assert page.page.evaluate(LINES_BELOW) == ""


def _fit(**of_two: str) -> Graph:
    """of_two: settings for a second model."""
    graph = Graph()
    inputs, _ = graph.add("TestInputs", family=FAMILY)
    model = loaded(graph, FAMILY)
    settings = {"steps": "1", "scheduler": "simple", "effort": "draft", "seed": 0, "name": "fitted", "cfg": 1.0}
    links = {"model": model, "positive": (inputs, 0), "latent_image": (inputs, 2)}
    graph.add("DyWeightFit", **settings, **links, **({"model_low": model, **of_two} if of_two else {}))
    return graph


def test_another_page_hears_nothing_of_it(page: ComfyPage) -> None:
    other = ComfyPage(page.server, page.page.context.browser.new_page())
    other.open()
    run(page, CASES["another cfg"])
    assert page.notes() and not other.notes()
    other.page.close()
