"""What only a browser can show: `make browser` (needs Chromium and its driver).

JupyterLab opens notebook 05, runs it and moves a slider of the explorer, then 13, whose live
section trains while its curves move; the slides of the talk and of committed notebooks are paged
through. Screenshots are left in runs/browser.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from tools import slides
from trlm_utils.files import PROJECT_ROOT, runs_root

OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--window-size=1400,900"
).split()
SHOTS = runs_root() / "browser"
RECIPE = """
name: browser
scales:
  nano:
    stages:
      - stage: 00_start_here
        parameters: {BASE_PROBLEMS: 640, HIDDEN_SIZE: 32, MAX_STEPS: 4}
      - stage: 01_data_curation
        parameters: {STAGE1_ROWS: 64, STAGE2_ROWS: 64, PREFERENCE_ROWS: 8, DPO_PROMPTS: 16,
          GRPO_PROMPTS: 32, EVAL_PER_BAND: 4, DIRT_ROWS: 0}
      - stage: 05_grpo_rewards
        model_from: 00_start_here
        parameters: {PROBE_PROMPTS: 4, MAX_NEW_TOKENS: 24}
      - stage: 03_sft_stage2
        model_from: 00_start_here
        parameters: {MAX_STEPS: 2, MAX_NEW_TOKENS: 16}
      - stage: 13_reward_lab
        parameters: {LIVE_RUN: RUNS/browser, LIVE_STEPS: 5}
"""


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver

    places = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, place in places.items() if not place]
    assert not missing, f"{' and '.join(missing)} not found: install them and run again"
    options = webdriver.ChromeOptions()
    options.binary_location = places["chromium"]
    for option in OPTIONS:
        options.add_argument(option)
    driver = webdriver.Chrome(options, webdriver.ChromeService(places["chromedriver"]))
    SHOTS.mkdir(parents=True, exist_ok=True)
    yield driver
    driver.quit()


def wait(condition, seconds, what):
    """Poll until ``condition()`` is true; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.3)
    raise AssertionError(f"{what} did not happen within {seconds} seconds")


@pytest.mark.parametrize("name", ["docs/talk.md", "notebooks/05_grpo_rewards.ipynb"])
def test_slides_open_and_page_through_offline(browser, tmp_path, name):
    path = slides.export(PROJECT_ROOT / name, tmp_path)
    browser.get(path.as_uri())
    script = browser.execute_script
    total = wait(lambda: script("return window.Reveal && Reveal.getTotalSlides()"), 20, "start")
    seen, tall = 0, []
    while True:
        seen += 1
        height, text = script(
            "const s = Reveal.getCurrentSlide(); return [s.scrollHeight, s.innerText.slice(0, 40)]"
        )
        if height > 720:
            tall.append((seen, height, text))
        if seen in (2, total // 2):
            browser.save_screenshot(SHOTS / f"slides_{path.stem}_{seen}.png")
        if script("return Reveal.isLastSlide()") or seen > 200:
            break
        script("Reveal.next()")
    assert seen == total > 8
    assert not tall, f"slides that do not fit: {tall}"
    fetched = script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert not [name for name in fetched if not name.startswith(("data:", "file:"))]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a JupyterLab whose folder holds executed copies of notebooks 05 and 13."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "browser.yaml").write_text(RECIPE.replace("RUNS", str(folder / "runs")))
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)  # else cells out of sight are not in the page
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    variables = os.environ | {
        "TRLM_RUNS_DIR": str(folder / "runs"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
    }
    run = [sys.executable, "-m", "trlm_utils", "run", str(folder / "browser.yaml")]
    done = subprocess.run(run, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("05_grpo_rewards", "13_reward_lab"):
        executed = folder / "runs" / "browser" / stage / "notebook.ipynb"
        shutil.copy(executed, folder / f"{stage}.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}"]
    command += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=", "--allow-root"]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"]
    log = (folder / "lab.log").open("w")
    server = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}/lab/workspaces"  # one each, so that no tab is open
    server.terminate()
    server.wait(timeout=30)
    log.close()


def run_all(browser, address):
    """Open a notebook in JupyterLab and run all of its cells."""
    from selenium.common.exceptions import WebDriverException

    def opened():
        try:
            browser.get(address)
            return True
        except WebDriverException:  # the server is still starting
            return False

    wait(opened, 60, "JupyterLab's start")
    ready = "return !!(window.jupyterapp && document.querySelector('.jp-Notebook .jp-CodeCell'))"
    wait(lambda: browser.execute_script(ready), 90, "opening the notebook")
    # the kernel connects after the cells are drawn; cells that are run before that are lost
    idle = (
        "return window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
        " === 'idle'"
    )
    wait(lambda: browser.execute_script(idle), 120, "the kernel's start")
    time.sleep(3)
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")


def test_the_explorer_answers_to_its_slider(browser, lab):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    run_all(browser, f"{lab}/explorer/tree/05_grpo_rewards.ipynb")
    pictures = wait(
        lambda: browser.find_elements(By.CSS_SELECTOR, "img.widget-image"), 300, "the explorer"
    )
    picture = pictures[0]
    handle = browser.find_element(By.CSS_SELECTOR, ".noUi-handle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    browser.save_screenshot(SHOTS / "explorer_before.png")
    before, said = picture.get_attribute("src"), message(browser)
    for _ in range(15):  # accuracy from 1.0 to below zero
        handle.send_keys(Keys.ARROW_LEFT)
    wait(lambda: picture.get_attribute("src") != before, 60, "another picture")
    wait(lambda: message(browser) != said, 60, "another winner")
    time.sleep(2)
    browser.save_screenshot(SHOTS / "explorer_after.png")
    assert "careful and right" in said and "careful and right" not in message(browser)


def message(browser):
    """The line on which completions the group is moved towards."""
    script = """return [...document.querySelectorAll('.widget-html-content b')]
        .map(e => e.innerText).find(t => t.includes('moved towards'))"""
    return browser.execute_script(script) or ""


SEEN = """
    for (const cell of document.querySelectorAll('.jp-CodeCell'))
        for (const picture of cell.querySelectorAll('.jp-OutputArea img')) {
            if (!window.seen.has(cell)) window.seen.set(cell, new Set());
            window.seen.get(cell).add(picture.src);
        }
    return Math.max(0, ...[...window.seen.values()].map(found => found.size));
"""


def wait_for_pictures(browser, number, seconds):
    """Wait until one cell has shown this many different pictures, one after the other."""
    browser.execute_script("window.seen = new Map()")
    wait(lambda: browser.execute_script(SEEN) >= number, seconds, "a picture that moves")


def test_curves_move_while_the_live_section_trains(browser, lab):
    run_all(browser, f"{lab}/live/tree/13_reward_lab.ipynb")
    wait_for_pictures(browser, 4, 300)  # other cells show one, and the one before this run
    browser.save_screenshot(SHOTS / "live_curves.png")
    ready = "return [...document.querySelectorAll('button')].find(b => b.innerText == 'train')"
    button = wait(lambda: browser.execute_script(ready), 300, "the button")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    wait_for_pictures(browser, 4, 120)
    done = """return [...document.querySelectorAll('.widget-html-content')]
        .some(e => e.innerText.includes('done in'))"""
    wait(lambda: browser.execute_script(done), 120, "the end of the training")
    browser.save_screenshot(SHOTS / "live_bench.png")
