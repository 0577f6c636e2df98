# One command each; none needs an active environment, they make .venv themselves.
# PYTHON=python3.12 and PIP_ARGS="..." are passed on to scripts/setup_env.sh.

.PHONY: demo test test-slow test-faults lint bench bench-mini bench-finetune bench-storage bench-ridge bench-variants bench-gradients bench-validate train-mini docs clean
export PYTHON PIP_ARGS

demo: .venv/.with-plot  ## toy genome to fitted predictions, in a minute
	.venv/bin/enformer-features demo
	@echo 'For "enformer-features" as a command: . .venv/bin/activate'

test: .venv/.with-test  ## everything that needs neither GPU, network nor time
	.venv/bin/python -m pytest

test-slow: .venv/.with-test .venv/.with-bench  ## the published network size
	.venv/bin/python -m pytest -m "slow and not gpu and not network"

test-faults: .venv/.with-test  ## kills, damage and full disks in full; prints the figures
	.venv/bin/python -m pytest tests/faults -m faults

lint: .venv/.with-test .venv/.with-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/.with-bench  ## against enformer-pytorch, in one run; half an hour
	.venv/bin/python benchmarks/run.py

bench-mini: .venv/.with-test  ## the bundled network against its baselines; 5 minutes
	.venv/bin/python benchmarks/mini.py --markdown benchmarks/MINI.md

bench-finetune: .venv/.with-test  ## fine-tuning against Ridge; 15 minutes
	.venv/bin/python benchmarks/finetune.py --seeds 0 1 --out benchmarks/FINETUNE.md

bench-storage: .venv/.with-test  ## rows and megabytes per second of the stores; 2 minutes
	.venv/bin/python benchmarks/storage.py --out benchmarks/STORAGE.md

bench-ridge: .venv/.with-test  ## the ridge head at 20,000 rows, beside scikit-learn's; 4 minutes
	.venv/bin/python benchmarks/ridge.py --out benchmarks/RIDGE.md

bench-variants: .venv/.with-bench  ## variants against enformer-pytorch; 15 minutes
	.venv/bin/python benchmarks/variants.py --out benchmarks/VARIANTS.md

bench-gradients: .venv/.with-test  ## gradient x input against the plain forward; 10 minutes
	.venv/bin/python benchmarks/gradients.py --out benchmarks/GRADIENTS.md

bench-validate: .venv/.with-test  ## how fast bad rows are found
	.venv/bin/python benchmarks/validate.py

train-mini: .venv/.with-test  ## the bundled network anew, into build/mini; 12 minutes
	OMP_WAIT_POLICY=passive .venv/bin/python scripts/train_mini.py

docs: .venv/.with-docs  ## pages and API, into build/docs; runs the gallery; 2 minutes
	.venv/bin/python examples/gallery.py --out docs/gallery --overwrite
	.venv/bin/python -m sphinx -q -W --keep-going -d build/doctrees -b html docs build/docs
	@echo 'Open build/docs/index.html'

clean:  ## remove what tests and builds leave; .venv stays
	rm -rf build docs/made dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f .coverage
	find enformer_features tests scripts benchmarks examples \
	    -name __pycache__ -prune -exec rm -rf {} +

# The stamp says that .venv holds the extra of that name as these files ask for it.
.venv/.with-%: setup.cfg constraints.txt scripts/setup_env.sh scripts/requirements.py
	scripts/setup_env.sh $*
	@touch $@
