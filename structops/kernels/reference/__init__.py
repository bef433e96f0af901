"""What each kernel means, in array-API calls: runs on every array library, differentiable there."""
