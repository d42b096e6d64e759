# Each goal does its own set-up in .venv; Python 3.11 to 3.13 is all it needs.
PYTHON = python3
DATA =
FOLDER =
EPOCHS =
RECIPE =
LOGS = logs

VENV = .venv/bin/python
PYTEST = $(VENV) -m pytest --numprocesses 2 --dist loadfile
quoted = '$(subst ','\'',$1)'
DATA_FLAG = $(if $(value DATA),--data $(call quoted,$(value DATA)))
LOGS_FLAG = --logs $(call quoted,$(value LOGS))
FLAGS = $(LOGS_FLAG) $(DATA_FLAG) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(RECIPE),--recipe $(RECIPE))

.PHONY: compare demo drawn-weights test coverage test-slow speed ablation optimizers few-images figures

compare: .venv/installed
	$(VENV) train_frozen.py $(FLAGS)
	$(VENV) train_last_fire.py $(FLAGS)
	$(VENV) train_full.py $(FLAGS)
	$(VENV) compare.py $(LOGS_FLAG)

# Without a network: synthetic images, and weights pretrained on other synthetic images, or random.
demo: LOGS = logs/demo
demo: EPOCHS = 15
demo: FLAGS = $(LOGS_FLAG) --data shapes --images-per-class 20 --image-size 64 --epochs $(EPOCHS) --head-epochs 0
demo: .venv/installed
	for weights in drawn none; do \
	    for regime in frozen last_fire full; do \
	        $(VENV) train_$$regime.py $(FLAGS) --weights $$weights || exit; \
	    done; \
	done
	$(VENV) compare.py $(LOGS_FLAG)
	@echo "What to look for: on features pretrained on other synthetic images (weights drawn), 20 images per class"
	@echo "are enough for any regime; with random weights (none), they are too few, however many layers are trained."

# Pretrains the weights `drawn`, on synthetic images: 20 minutes on two cores.
drawn-weights: .venv/installed
	$(VENV) -m transfer.pretraining

# An hour and a half on a quiet machine; PyTorch is measured too where it is installed.
speed: .venv/installed
	$(VENV) -m benchmarks.speed $(DATA_FLAG)

# From the recipe report to tuned, one change at a time; and all optimizers side by side.
ablation optimizers: .venv/installed
	$(VENV) -m benchmarks.$@ $(DATA_FLAG)

# Each regime, and scikit-learn's linear classifier, on 10 to 4,000 images per class: hours.
few-images: .venv/installed-for-benchmarks
	$(VENV) -m benchmarks.few_images $(DATA_FLAG)

# All results in README and docs/: takes hours; run it again to continue. PyTorch is measured where it is installed.
figures: .venv/installed-for-benchmarks .venv/installed-for-tests
	npm ci --silent --ignore-scripts --prefix transfer/web || echo "npm ci failed: exported models are not measured"
	$(VENV) -m benchmarks.figures $(DATA_FLAG) $(if $(value FOLDER),--folder $(call quoted,$(value FOLDER)))

test: .venv/installed-for-tests
	$(VENV) -m ruff check . && $(VENV) -m ruff format --check --quiet . && $(VENV) -m mypy
	$(PYTEST) $(TESTS)

# The fast tests, and which lines they don't reach.
coverage: .venv/installed-for-tests
	$(PYTEST) --cov --cov-report term:skip-covered

# What takes minutes; TESTS= names a part of it, as for test.
test-slow: .venv/installed-for-tests
	$(PYTEST) -m slow $(TESTS)

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("%s is Python %d.%d: expected 3.11 to 3.13, such as make PYTHON=python3.12" % (sys.executable, *sys.version_info[:2]))'
	$(PYTHON) -m venv .venv
	$(VENV) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-for-tests: .venv/installed tests/requirements.txt requirements-export.txt requirements-heic.txt
	$(VENV) -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

.venv/installed-for-benchmarks: .venv/installed benchmarks/requirements.txt
	$(VENV) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	touch $@
